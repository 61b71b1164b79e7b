#!/usr/bin/env python3
"""Writes whole inputs for the fuzz targets to `corpus/`, from what the tests hold, so that a fuzzer
begins with bodies that can be read instead of finding them.

    fuzz/seeds.py && cd fuzz && cargo +nightly fuzz run telemetry -- -max_total_time=3600
"""

import gzip
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
CAPTURES = HERE.parent / "crates/ingest/src/telemetry/tests/captures"
SIGNED = HERE.parent / "tests/golden/signature"

# As `Payload::NAMES` and the target's `TYPES` have them.
PAYLOADS = ["otlp-traces", "otlp-logs", "langsmith-multipart", "langsmith-runs",
            "langsmith-feedback", "langfuse-scores", "openai-agents"]
PROTOBUF, JSON, MULTIPART = 0, 9, 18

HI, HELLO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}

# In the order of the target's `FORMATS`; `auto` and `otlp` have the captures.
IMPORTS = {
    "openai": {"messages": [HI, HELLO]},
    "trl": {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
    "understudy": {"outcome": {
        "id": "out_x", "target": {"by": "turn", "id": {"session": "s", "turn": 2}},
        "signal": {"kind": "accept"}, "source": "explicit", "at": "2026-01-01T00:00:00Z"}},
    "tau-bench": {"task_id": 7, "trial": 0, "reward": 1.0, "info": {}, "traj": [HI, HELLO]},
    "atif": {"schema_version": "ATIF-v1.4", "session_id": "s",
             "agent": {"name": "a", "version": "1", "model_name": "m"},
             "steps": [{"step_id": 1, "source": "user", "message": "Hi"},
                       {"step_id": 2, "source": "agent", "message": "Hello"}]},
    "langsmith": {"id": "0" * 31 + "1", "trace_id": "0" * 31 + "1", "run_type": "llm",
                  "name": "ChatOpenAI", "start_time": "2026-01-01T00:00:00Z",
                  "end_time": "2026-01-01T00:00:01Z", "inputs": {"messages": [HI]},
                  "outputs": {"choices": [{"message": HELLO}]}},
}

# In the order of the target's `FORMATS`.
TOOL = {"name": "area", "parameters": {"type": "dict", "properties": {"side": {"type": "float"}},
                                       "required": ["side"]}}
SUITES = [
    '{"input": [{"role": "user", "content": "2+2?"}], "ideal": ["4", "four (4)"]}',
    '{"input": "2+2?", "ideal": "4"}',
    '{"input": "give json", "ideal": "{\\"a\\":1}"}',
    json.dumps({"id": "simple_0", "question": [[HI]], "function": [TOOL]})
    + '\n\n{"id":"simple_0","ground_truth":[{"area":{"side":[2.0]}}]}',
    '{"prompts": ["Say {{what}}"], "tests": [{"vars": {"what": "hi"}, '
    '"assert": [{"type": "contains", "value": "hi"}]}]}',
    '{"doc_id": 0, "doc": {}, "target": "4", "arguments": [["2+2?", {"until": ["\\n"]}]], '
    '"resps": [["4"]], "filtered_resps": ["4"], "filter": "none"}',
    '{"input": "2+2?", "ideal": "4"}\n\n'
    'sums.dev.v0: { class: evals.elsuite.basic.match:Match, args: {} }',
    json.dumps({"results": {"version": 3, "results": [
        {"testIdx": 0, "promptIdx": 0, "provider": {"id": "p"}, "prompt": {"raw": "Say hi"},
         "response": {"output": "hi"}, "success": True, "score": 1,
         "testCase": {"vars": {"what": "hi"}, "assert": [{"type": "contains", "value": "hi"}]}}]}}),
    json.dumps({"version": 2, "status": "success",
                "eval": {"task": "t", "run_id": "r", "scorers": [{"name": "inspect_ai/match"}]},
                "samples": [{"id": 1, "epoch": 1, "input": "Hi", "target": "Hello",
                             "messages": [HI | {"source": "input"}, HELLO | {"source": "generate"}],
                             "output": {"completion": "Hello"},
                             "scores": {"match": {"value": "C"}}}]}),
]

REQUESTS = [
    {"model": "m", "messages": [HI], "stream": True, "stream_options": {"include_usage": True},
     "logprobs": True, "top_logprobs": 2, "stop": ["x"], "n": 2, "seed": 7,
     "logit_bias": {"1": -3}, "tools": [{"type": "function", "function": TOOL}],
     "tool_choice": "auto"},
    {"model": "m", "messages": [HI], "response_format": {
        "type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}},
    {"model": "m", "prompt": [[1, 2], [3]], "echo": True, "logprobs": 1, "best_of": 1},
    {"model": "m", "token_ids": [1, 2], "sampling_params": {"max_tokens": 4}},
    {"lora_name": "a@1", "lora_path": "/adapters/a", "load_inplace": True, "ttl_s": 60},
]

TEXTS = [
    "Call +49 30 901820 or write to ada@lovelace.example, card 4111 1111 1111 1111.",
    '{"iban": "DE89370400440532013000", "ip": ["10.0.0.1", {"key": "AKIAIOSFODNN7EXAMPLE"}]}',
]


def bodies():
    """Every request of the captures: its name, its kind of content, its bytes."""
    for capture in sorted(CAPTURES.glob("*.json")):
        for request in json.loads(capture.read_text())["requests"]:
            name, body = request["payload"].replace("_", "-"), request["body"]
            if name == "langsmith-multipart":
                yield name, MULTIPART, body.replace(request["boundary"], "b").encode()
            else:
                text = body if isinstance(body, str) else json.dumps(body)
                yield name, JSON, text.encode()
    for kind in ["traces", "logs"]:
        for capture in CAPTURES.glob(f"*.{kind}.pb"):
            yield f"otlp-{kind}", PROTOBUF, capture.read_bytes()


def write(target, seeds):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    print(f"{target}: {number + 1}")


def main():
    told = list(bodies())
    write("telemetry", [bytes([PAYLOADS.index(name) + kind]) + body for name, kind, body in told])
    write("decompress", [body for _, _, body in told[:4]]
          + [gzip.compress(body, mtime=0) for _, _, body in told[:8]])
    rows = [json.dumps(row).encode() for row in IMPORTS.values()]
    otlp = [bytes([7]) + body for name, kind, body in told if name == "otlp-traces" and kind == JSON]
    write("imports", [bytes([n + 1]) + row for n, row in enumerate(rows)]
          + [b"\0" + row for row in rows] + otlp)
    write("suites", [bytes([n]) + suite.encode() for n, suite in enumerate(SUITES)])
    write("requests", [json.dumps(request).encode() for request in REQUESTS])
    write("redact", [text.encode() for text in TEXTS])
    write("signature", [file.read_bytes() for file in sorted(SIGNED.iterdir()) if file.is_file()])


if __name__ == "__main__":
    main()
