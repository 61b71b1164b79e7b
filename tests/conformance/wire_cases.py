"""Streams byte by byte: what comes in which order, whatever a client makes of it."""

import json

from harness import CHAT, COMPLETIONS, GENERATE, WEATHER, case


@case
def role_then_text_then_reason_then_usage_then_done(context):
    options = {"stream_options": {"include_usage": True}}
    events = context.stream(CHAT, context.chat("Say hello", **options))
    assert events[-1] == "data: [DONE]"
    assert all(event.startswith("data: {") for event in events[:-1])
    first, *middle, last, usage = [json.loads(event[6:]) for event in events[:-1]]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    for chunk in (first, *middle):
        assert chunk["object"] == "chat.completion.chunk" and chunk["usage"] is None
        assert chunk["choices"][0]["finish_reason"] is None
    assert all(list(chunk["choices"][0]["delta"]) == ["content"] for chunk in middle)
    assert last["choices"][0]["delta"] == {} and last["choices"][0]["finish_reason"]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] > 0
    same = {(c["id"], c["created"], c["model"], c["system_fingerprint"]) for c in (first, last, usage)}
    assert len(same) == 1


@case
def without_the_option_no_chunk_speaks_of_usage(context):
    assert all("usage" not in chunk for chunk in context.chunks(CHAT, context.chat()))


@case
def each_choice_has_its_own_beginning_and_end(context):
    chunks = context.chunks(CHAT, context.chat("Say hello", n=3))
    for index in range(3):
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert [bool(choice["finish_reason"]) for choice in own] == [False] * (len(own) - 1) + [True]


@case
def a_call_opens_with_its_name_and_goes_on_with_fragments(context):
    asked = context.chat("Weather in Bern?", tools=[WEATHER], tool_choice="required",
                         parallel_tool_calls=False, max_tokens=200, temperature=0)
    deltas = [chunk["choices"][0]["delta"] for chunk in context.chunks(CHAT, asked)]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    head, *rest = calls
    assert head["type"] == "function" and head["id"] and head["index"] == 0
    assert head["function"] == {"name": "weather", "arguments": ""}
    assert all(set(call) == {"index", "function"} for call in rest)
    assert all(set(call["function"]) == {"arguments"} for call in rest)
    assert json.loads("".join(call["function"]["arguments"] for call in rest))


@case
def tokens_and_their_ids_arrive_with_the_text(context):
    asked = context.chat("Say hello", logprobs=True, top_logprobs=2, return_token_ids=True,
                         temperature=0, return_weight_versions=True)
    whole = context.post(CHAT, asked)[2]
    first, *chunks = context.chunks(CHAT, asked)
    assert first["prompt_token_ids"] == whole["prompt_token_ids"]
    parts = [chunk["choices"][0] for chunk in chunks]
    ids = [id for part in parts for id in part.get("token_ids", [])]
    assert ids == whole["choices"][0]["token_ids"]
    scores = [t for part in parts for t in (part["logprobs"] or {"content": []})["content"]]
    assert len(scores) == len(ids)
    assert parts[-1]["weight_versions"] == whole["choices"][0]["weight_versions"]


@case
def no_chunk_holds_half_a_character(context):
    text = "é✓漢🎈" * 4
    if context.is_mock:
        chunks = context.chunks(CHAT, context.chat(text, max_tokens=200))
        pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)
    asked = context.chat(text, temperature=1.5, seed=3, max_tokens=48)
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in context.chunks(CHAT, asked)]
    assert "".join(pieces) == context.post(CHAT, asked)[2]["choices"][0]["message"]["content"]


@case
def completions_stream_text_alone(context):
    asked = {"model": context.model, "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0,
             "stream_options": {"include_usage": True}}
    *chunks, usage = context.chunks(COMPLETIONS, asked)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert ends[-1] and not any(ends[:-1])
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] > 0
    whole = context.post(COMPLETIONS, {**asked, "stream_options": None})[2]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]


@case
def echoed_prompts_come_first(context):
    asked = {"model": context.model, "prompt": "Once upon", "max_tokens": 3, "echo": True}
    assert context.chunks(COMPLETIONS, asked)[0]["choices"][0]["text"] == "Once upon"


@case
def ids_stream_as_ids(context):
    ids = context.post("/tokenize", {"prompt": "Once upon a time"})[2]["tokens"]
    params = {"max_tokens": 5, "temperature": 0, "ignore_eos": True}
    asked = {"token_ids": ids, "sampling_params": params, "stream_options": {"include_usage": True}}
    *chunks, usage = context.chunks(GENERATE, asked)
    whole = context.post(GENERATE, {**asked, "stream_options": None})[2]["choices"][0]["token_ids"]
    streamed = [id for c in chunks for choice in c["choices"] for id in choice.get("token_ids", [])]
    assert streamed == whole and len(whole) == 5
    assert usage["usage"]["completion_tokens"] == 5
