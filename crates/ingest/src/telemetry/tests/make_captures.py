#!/usr/bin/env python3
"""Trims captures of real telemetry clients into the fixtures beside this script.

    python3 make_captures.py DIRECTORY_OF_CAPTURES

A capture NAME is what one client sent while an agent asked one question, ran one tool and answered:
`NAME.traces.jsonl` and `NAME.logs.jsonl` (OTLP requests as JSON), `NAME.other.jsonl` (bodies of
other protocols as text), and what the loopback model server received, `NAME.chat.jsonl` and
`NAME.resp.jsonl`: the truth that the telemetry is measured by.

Kept as they came: ids, times, scopes, and every attribute of model and tool spans. Cut: the state
that frameworks repeat in the spans around these, resource attributes but the service's name, and
the environment that LangSmith copies into its metadata.
"""

import json
import pathlib
import re
import sys

# What the loopback server answers last in every run.
ANSWER = "It is rainy in Paris, 14C."
LONG = 300


def lines(path):
    return [json.loads(line) for line in path.open()] if path.exists() else []


def is_frame(span):
    kinds = {a["key"]: a.get("value", {}).get("stringValue") for a in span.get("attributes") or []}
    kind = kinds.get("openinference.span.kind") or kinds.get("langsmith.span.kind")
    return kind is not None and kind.lower() not in ("llm", "tool")


def trim_metadata(text):
    kept = {k: v for k, v in json.loads(text).items() if not re.match("lang(graph|smith)_|LANG|lc_|checkpoint", k)}
    return json.dumps(kept)


def trim_span(span):
    frame = is_frame(span)
    attributes = []
    for attribute in span.get("attributes") or []:
        value = attribute.get("value", {}).get("stringValue")
        if attribute["key"].startswith("langsmith.metadata.LANG"):
            continue
        if attribute["key"] == "metadata" and value:
            attribute["value"]["stringValue"] = trim_metadata(value)
        elif frame and value and len(value) > LONG:
            attribute["value"]["stringValue"] = json.dumps({"cut": len(value)})
        elif attribute["key"] in ("model_request_parameters", "logfire.json_schema"):
            attribute["value"]["stringValue"] = "{}"
        attributes.append(attribute)
    if "attributes" in span:
        span["attributes"] = attributes
    return span


def trim_otlp(body):
    for resource in body.get("resourceSpans", []) + body.get("resourceLogs", []):
        if "resource" in resource:
            kept = [a for a in resource["resource"].get("attributes", []) if a["key"] == "service.name"]
            resource["resource"]["attributes"] = kept
        for scope in resource.get("scopeSpans", []):
            scope["spans"] = [trim_span(span) for span in scope["spans"]]
    return body


def trim_multipart(body, boundary):
    parts = body.split("--" + boundary)
    frames = set()
    for part in parts:
        found = re.search(r'name="post\.([^".]+)"', part)
        if found and '"run_type":"chain"' in part:
            frames.add(found.group(1))
    trimmed = []
    for part in parts:
        head, separator, content = part.partition("\r\n\r\n")
        found = re.search(r'name="post\.([^".]+)\.(\w+)"', head)
        if found and found.group(2) == "extra":
            extra = json.loads(content)
            extra["metadata"] = json.loads(trim_metadata(json.dumps(extra.get("metadata", {}))))
            extra.pop("runtime", None)
            content = json.dumps(extra, separators=(",", ":")) + "\r\n"
        elif found and found.group(1) in frames and len(content) > LONG:
            content = json.dumps({"cut": len(content)}) + "\r\n"
        head = re.sub(r"\r\nContent-Length: \d+", "", head)
        trimmed.append(head + separator + content)
    return ("--" + boundary).join(trimmed)


def truth(chats, responses):
    """The messages of the longest request, which has the whole run but its last answer."""
    if chats:
        last = max(chats, key=lambda chat: len(chat["messages"]))
        return last["messages"] + [{"role": "assistant", "content": ANSWER}]
    if not responses:
        return []
    last = max(responses, key=lambda response: len(response["input"]))
    system = [{"role": "system", "content": last["instructions"]}] if last.get("instructions") else []
    items = last["input"] if isinstance(last["input"], list) else [{"role": "user", "content": last["input"]}]
    return system + items + [{"role": "assistant", "content": ANSWER}]


def requests(source, name):
    found = [{"payload": "otlp_traces", "body": trim_otlp(b)} for b in lines(source / f"{name}.traces.jsonl")]
    found += [{"payload": "otlp_logs", "body": trim_otlp(b)} for b in lines(source / f"{name}.logs.jsonl")]
    for other in lines(source / f"{name}.other.jsonl"):
        if other["p"] == "/runs/multipart":
            boundary = other["ct"].split("boundary=")[1]
            found.append({"payload": "langsmith_multipart", "boundary": boundary,
                          "body": trim_multipart(other["body"], boundary)})
        elif other["p"].endswith("/scores"):
            found.append({"payload": "langfuse_scores", "body": json.loads(other["body"])})
        elif other["p"].endswith("/traces/ingest"):
            found.append({"payload": "openai_agents", "body": json.loads(other["body"])})
    return found


def main(source):
    target = pathlib.Path(__file__).parent / "captures"
    target.mkdir(exist_ok=True)
    total = 0
    for name in sorted({path.name.split(".")[0] for path in source.glob("*.jsonl")}):
        found = requests(source, name)
        if not found:
            continue
        said = truth(lines(source / f"{name}.chat.jsonl"), lines(source / f"{name}.resp.jsonl"))
        text = json.dumps({"said": said, "requests": found}, ensure_ascii=False, separators=(",", ":"))
        (target / f"{name}.json").write_text(text + "\n")
        total += len(text)
        print(f"{name:20} {len(text):7}")
    print(f"{'total':20} {total:7}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
