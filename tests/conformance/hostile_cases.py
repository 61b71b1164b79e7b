"""What nobody should send, and what happens to those who do."""

import dataclasses
import json
import socket
import time
import urllib.parse

from harness import CHAT, COMPLETIONS, GENERATE, WEATHER, case, until

# No error is longer than this, however long the request was.
MOST = 3000


def bounded(reply):
    status, _, body = reply
    assert 400 <= status < 500 and len(json.dumps(body)) < MOST, (status, str(body)[:200])
    assert set(body["error"]) >= {"message", "type", "param", "code"}
    assert body["error"]["code"] == status
    return body["error"]


def shaped(context, schema):
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return context.chat(response_format=shape, max_tokens=64)


@case
def every_refused_field_is_refused_by_its_name(context):
    nonsense = [{"nonsense": True}]
    text = {"model": context.model, "prompt": "hi"}
    count = 0
    for field, in_columns in context.documented_fields().items():
        for word, path, body in zip(in_columns, (CHAT, COMPLETIONS), (context.chat(), text)):
            if word != "refused":
                continue
            count += 1
            error = context.refuses({**body, field: nonsense}, field, path=path)
            assert field in error["message"]
    assert count > 50, count


@case
def null_is_absent_and_unknown_fields_pass(context):
    nothing = dict.fromkeys(context.documented_fields())
    for more in (nothing, {"nobody_knows": {"this": [1]}, "": 1}):
        status, _, reply = context.post(CHAT, {**more, **context.chat()})
        assert status == 200, reply
        text = {"model": context.model, "prompt": "hi"}
        assert context.post(COMPLETIONS, {**more, **text})[0] == 200


@case
def honoured_fields_check_their_values(context):
    for field, value in {
        "temperature": -1, "top_p": 0, "top_k": -2, "min_p": 2, "presence_penalty": 3,
        "frequency_penalty": -3, "repetition_penalty": 0, "n": 129, "seed": "x", "stop": [""],
        "logit_bias": {"1": 101}, "allowed_token_ids": [], "bad_words": [""], "min_tokens": 99,
        "max_tokens": 0, "top_logprobs": 21, "prompt_logprobs": 21, "logprobs": "yes",
        "response_format": {"type": "json_schema"}, "tools": [{"type": "custom"}],
        "structured_outputs": {"json": {}, "choice": ["a"]}, "messages": [],
        "cache_salt": "", "priority": 1 << 40, "truncate_prompt_tokens": 0, "adapter": 7,
        "logprobs_mode": "cooked", "request_id": "x" * 300, "stream": 1,
    }.items():
        more = {"logprobs": True} if field == "top_logprobs" else {}
        context.refuses(context.chat(**{**more, field: value}), field)
    context.refuses(context.chat(prompt_logprobs=1, stream=True), "prompt_logprobs")
    context.refuses(context.chat(stream_options={"include_usage": True}), "stream_options")
    both = {"add_generation_prompt": True, "continue_final_message": True}
    context.refuses(context.chat(**both), "continue_final_message")


@case
def a_context_that_overflows_says_both_numbers(context):
    _, _, card = context.get(f"/v1/models/{context.model}")
    most = card["max_model_len"]
    error = context.refuses(context.chat("hi", max_tokens=most), "messages")
    assert str(most) in error["message"] and error["reason"] == "context_length_exceeded"
    long = "one two " * most
    context.refuses(context.chat(long), "messages")
    context.refuses({"model": context.model, "prompt": long}, "prompt", path=COMPLETIONS)
    context.refuses({"token_ids": [5] * (most + 1)}, "token_ids", path=GENERATE)
    kept = context.chat(long, truncate_prompt_tokens=16, max_tokens=2)
    assert context.post(CHAT, kept)[2]["usage"]["prompt_tokens"] == 16


@case
def what_is_not_json_is_named_so(context):
    body = json.dumps(context.chat()).encode()
    for data in (b"", b"[]", b"7", body[:-1], b'{"a": ' + b"[" * 100_000, body.replace(b"hi", b"\xff\xfe"),
                 body.replace(b"hi", b"\xc3"), body.replace(b"hi", b"\\ud800"),
                 body.replace(b"8", b"1e999"), body.replace(b"8", b"NaN")):
        error = bounded(context.raw("POST", CHAT, data))
        assert error["type"] == "BadRequestError", error


@case
def bodies_have_a_limit(context):
    status, _, reply = context.post(CHAT, context.chat("x" * (5 << 20)))
    assert status == 413 and reply["error"]["type"] == "RequestTooLarge"
    assert context.post(CHAT, context.chat())[0] == 200


@case
def errors_stay_small(context):
    long = "x" * (1 << 20)
    for body in (context.chat(model=long), context.chat(messages=[{"role": long}]),
                 context.chat(structured_outputs={long: 1}), context.chat(adapter=long),
                 context.chat(messages=[{"role": "nobody"}] * 20_000), context.chat(request_id=long),
                 context.chat(tools=[WEATHER], tool_choice={"function": {"name": long}}),
                 context.chat(logit_bias={long: 1}), context.chat(response_format={"type": long})):
        bounded(context.post(CHAT, body))
    bounded(context.get("/" + "x" * 5000))
    bounded(context.post("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": long}))
    bounded(context.post("/tokenize", {"prompt": "x", "model": long}))
    bounded(context.post("/detokenize", {"tokens": [10**9]}))


@case
def every_refusal_has_the_envelope(context):
    for method, path, status in (
        ("GET", CHAT, 405), ("GET", "/nowhere", 404), ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/%ff", 400), ("POST", "/pause?clear_cache=maybe", 400),
        ("POST", "/v1/feedback", 400),
    ):
        said, _, reply = context.call(method, path, {} if method == "POST" else None)
        assert said == status and reply["error"]["code"] == status, (path, said, reply)


@case
def schemas_without_an_end_cost_nothing(context):
    began = time.monotonic()
    pairs = {f"d{n}": {"type": "object", "required": ["a", "b"], "properties": {
        key: {"$ref": f"#/$defs/d{n + 1}"} for key in "ab"}} for n in range(25)}
    deep = {"type": "null"}
    for _ in range(50):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    for schema in (
        {"$ref": "#"}, {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, {"$ref": "#/nowhere"}, deep,
        {"type": "array", "minItems": 10**9}, {"type": "string", "minLength": 10**12},
        {"$ref": "#/$defs/d0", "$defs": {**pairs, "d25": {"type": "null"}}},
        {"type": "nonsense"}, {"enum": []}, {"type": "string", "pattern": "(a+)+" * 40},
    ):
        reply = context.post(CHAT, shaped(context, schema))
        # Some of these are good schemas, whose shortest instance is merely longer than a reply.
        assert reply[0] == 200 or bounded(reply), reply
    assert time.monotonic() - began < 60
    assert context.post(CHAT, context.chat())[0] == 200


@case
def names_of_tools_cannot_break_out_of_the_grammar(context):
    name = 'a"b\\n\nstart: "x"'
    tool = {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    asked = context.chat(tools=[tool], tool_choice="required", parallel_tool_calls=False, max_tokens=64)
    status, _, reply = context.post(CHAT, asked)
    if status == 200:
        calls = reply["choices"][0]["message"].get("tool_calls") or []
        assert all(call["function"]["name"] == name for call in calls), reply
    else:
        bounded((status, _, reply))


@case
def templates_run_out_of_fuel(context):
    loop = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}"
    began = time.monotonic()
    bounded(context.post(CHAT, context.chat(chat_template=loop)))
    assert time.monotonic() - began < 20


@case
def templates_are_refused_where_nobody_allowed_them(context):
    if context.closed is None:
        return
    closed = dataclasses.replace(context, url=context.closed)
    for path in (CHAT, "/tokenize"):
        closed.refuses(closed.chat(chat_template="{{ 1 }}"), "chat_template", path=path)


@case
def a_client_that_goes_away_is_forgotten(context):
    for stream in (True, False):
        aborted = lambda: context.metric("vllm:request_success_total", finished_reason="abort")  # noqa: E731
        before = aborted()
        connection = context.send(CHAT, context.chat("x" * 2000, max_tokens=2000, stream=stream,
                                                     ignore_eos=True))
        until("it runs", lambda: context.metric("vllm:num_requests_running") > 0)
        connection.close()
        until("it is cancelled", lambda: aborted() == before + 1)
        until("it is gone", lambda: context.metric("vllm:num_requests_running") == 0)


@case
def a_slow_reader_holds_up_nobody(context):
    slow = context.send(CHAT, context.chat("x" * 600, max_tokens=600, stream=True, logprobs=True,
                                           top_logprobs=20, ignore_eos=True))
    until("it runs", lambda: context.metric("vllm:num_requests_running") > 0)
    assert context.post(CHAT, context.chat())[0] == 200
    until("it is generated though nobody reads",
          lambda: context.metric("vllm:num_requests_running") == 0, seconds=120)
    text = slow.getresponse().read().decode()
    assert text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(event[6:]) for event in text.split("\n\n")[:-2]]
    scored = [len((c["choices"][0]["logprobs"] or {"content": []})["content"]) for c in chunks]
    assert sum(scored) == 600


@case
def a_body_that_never_comes_holds_up_nobody(context):
    host = urllib.parse.urlsplit(context.url)
    idle = [socket.create_connection((host.hostname, host.port)) for _ in range(20)]
    for one in idle:
        one.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
    assert context.post(CHAT, context.chat())[0] == 200
    for one in idle:
        one.close()


@case
def deadlines(context):
    long = context.chat("x" * 2000, max_tokens=2000, ignore_eos=True)
    status, _, reply = context.post(CHAT, long, {"x-request-timeout-ms": "300"})
    if status == 504:
        assert reply["error"]["reason"] == "deadline_exceeded"
    else:
        choice = reply["choices"][0]
        assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "deadline")
        assert 0 < reply["usage"]["completion_tokens"] < 2000
    status, _, error = context.post(CHAT, context.chat(), {"x-request-timeout-ms": "soon"})
    assert status == 400 and error["error"]["param"] == "x-request-timeout-ms"
    assert context.post(CHAT, context.chat(), {"x-request-timeout-ms": "60000"})[0] == 200


@case
def a_full_queue_is_a_503_that_says_when_to_come_back(context):
    held, last = [], None
    long = context.chat("x" * 1000, max_tokens=1000, stream=True, n=16, ignore_eos=True)

    def full():
        nonlocal last
        held.append(context.send(CHAT, long))
        # What is let in after all waits behind the long ones, and not for ever.
        last = context.post(CHAT, context.chat(n=16, max_tokens=1), {"x-request-timeout-ms": "200"})
        return last[0] == 503

    until("the queue is full", full, seconds=60)
    _, headers, reply = last
    assert headers["retry-after"] == "1"
    assert reply["error"]["reason"] in ("max_num_queued_reqs", "max_num_queued_tokens")
    for connection in held:
        connection.close()
    until("there is room", lambda: context.post(CHAT, context.chat())[0] == 200)
