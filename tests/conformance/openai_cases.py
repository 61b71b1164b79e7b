"""OpenAI's own Python client."""

import asyncio
import json
import math

import openai
import pydantic
from harness import WEATHER, case


def client(context, **more):
    return openai.OpenAI(base_url=context.v1, max_retries=0, timeout=120, **more)


def user(text):
    return [{"role": "user", "content": text}]


def chat(context, text="Say hello", **more):
    more.setdefault("max_tokens", 64)
    return client(context).chat.completions.create(model=context.model, messages=user(text), **more)


@case
def a_whole_reply(context):
    reply = chat(context)
    assert reply.object == "chat.completion" and reply.id.startswith("chatcmpl-")
    choice = reply.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert usage.prompt_tokens_details.cached_tokens >= 0
    assert reply.system_fingerprint


@case(mock=True)
def the_mock_repeats(context):
    assert chat(context, "héllo ✓").choices[0].message.content == "héllo ✓"


@case
def a_stream_joins_to_the_whole_reply(context):
    whole = chat(context, temperature=0, seed=1).choices[0].message.content
    chunks = list(chat(context, temperature=0, seed=1, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert all(chunk.usage is None for chunk in chunks)


@case
def usage_at_the_end_of_a_stream(context):
    chunks = list(chat(context, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


@case
def continuous_usage(context):
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(chat(context, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts) and counts[-1] > 0
    assert all(chunk.usage.prompt_tokens > 0 for chunk in chunks)


@case
def the_streaming_helper(context):
    with client(context).chat.completions.stream(
        model=context.model, messages=user("Say hello"), max_tokens=200, temperature=0
    ) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in events and "content.done" in events
    assert final.choices[0].message.content


@case
def the_async_client_side_by_side(context):
    async def ask():
        asynchronous = openai.AsyncOpenAI(base_url=context.v1, max_retries=0, timeout=120)
        asked = [
            asynchronous.chat.completions.create(
                model=context.model, messages=user(f"number {n}"), max_tokens=16
            )
            for n in range(8)
        ]
        return await asyncio.gather(*asked)

    replies = asyncio.run(ask())
    assert len({reply.id for reply in replies}) == 8
    if context.is_mock:
        assert [reply.choices[0].message.content for reply in replies] == [
            f"number {n}" for n in range(8)
        ]


@case
def several_choices(context):
    reply = chat(context, "Pick letters: ????????", n=3, seed=5, temperature=1.5)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1
    third = chat(context, "Pick letters: ????????", seed=7, temperature=1.5)
    assert third.choices[0].message.content == reply.choices[2].message.content


@case
def several_choices_in_a_stream(context):
    chunks = chat(context, "Pick: ????", n=2, seed=5, stream=True)
    ended = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert sorted(ended) == [0, 1]


@case
def a_seed_decides(context):
    asked = dict(text="Pick letters: ????????", seed=3, temperature=1.5)
    first, second = (chat(context, **asked).choices[0].message.content for _ in range(2))
    assert first == second


@case
def limits(context):
    reply = chat(context, "Count to a hundred", max_tokens=3)
    assert reply.usage.completion_tokens == 3 and reply.choices[0].finish_reason == "length"
    reply = chat(context, "Count to a hundred", max_tokens=None, max_completion_tokens=2)
    assert reply.usage.completion_tokens == 2


@case(mock=True)
def stop_strings(context):
    reply = chat(context, "one two three", stop=["two", "three"])
    assert reply.choices[0].message.content == "one "
    assert reply.choices[0].model_extra["stop_reason"] == "two"


@case
def log_probabilities(context):
    content = chat(context, logprobs=True, top_logprobs=3, max_tokens=4).choices[0].logprobs.content
    assert 0 < len(content) <= 4
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert bytes(token.bytes).decode(errors="replace") or token.token is not None
        best = [other.logprob for other in token.top_logprobs]
        assert best == sorted(best, reverse=True)


@case
def streamed_log_probabilities(context):
    asked = dict(logprobs=True, top_logprobs=1, temperature=0, max_tokens=6)
    whole = chat(context, **asked).choices[0].logprobs.content
    streamed = [
        token
        for chunk in chat(context, stream=True, **asked)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [token.token for token in streamed] == [token.token for token in whole]


@case
def penalties_and_bias(context):
    reply = chat(context, presence_penalty=0.5, frequency_penalty=0.5, logit_bias={"97": -100},
                 temperature=0, top_p=0.9)
    if context.is_mock:
        assert "a" not in reply.choices[0].message.content


@case
def json_mode(context):
    reply = chat(context, "Give me JSON", response_format={"type": "json_object"}, max_tokens=200,
                 temperature=0)
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(reply.choices[0].message.content), dict)


class City(pydantic.BaseModel):
    name: str
    people: int
    tags: list[str]


@case
def structured_output_parsed(context):
    schema = {"name": "city", "strict": True, "schema": {
        "type": "object", "properties": {"size": {"enum": ["small", "large"]}},
        "required": ["size"], "additionalProperties": False}}
    reply = chat(context, "How large is Bern?", temperature=0,
                 response_format={"type": "json_schema", "json_schema": schema})
    assert json.loads(reply.choices[0].message.content)["size"] in ("small", "large")


@case(mock=True)
def structured_output_as_a_class(context):
    reply = client(context).chat.completions.parse(
        model=context.model, messages=user("Describe Bern"), response_format=City)
    assert isinstance(reply.choices[0].message.parsed, City)


@case
def a_required_call(context):
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        reply = chat(context, "Weather in Bern?", tools=[WEATHER], tool_choice=choice,
                     parallel_tool_calls=False, max_tokens=200, temperature=0)
        call = reply.choices[0].message.tool_calls[0]
        assert call.type == "function" and call.function.name == "weather" and call.id
        assert json.loads(call.function.arguments)["city"] in ("Bern", "Oslo")
        assert reply.choices[0].finish_reason == "tool_calls"
        assert reply.choices[0].message.content is None


@case
def a_streamed_call(context):
    name, arguments, identity, reason = "", "", "", None
    for chunk in chat(context, "Weather in Bern?", tools=[WEATHER], tool_choice="required",
                      parallel_tool_calls=False, stream=True, max_tokens=200,
                      temperature=0):
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            identity += call.id or ""
            arguments += call.function.arguments or ""
        reason = chunk.choices[0].finish_reason or reason
    assert (name, reason) == ("weather", "tool_calls") and identity
    assert json.loads(arguments)["city"] in ("Bern", "Oslo")


@case(mock=True)
def the_streaming_helper_assembles_calls(context):
    with client(context).chat.completions.stream(
        model=context.model, messages=user("Weather?"), tools=[WEATHER], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion()
    assert json.loads(final.choices[0].message.tool_calls[0].function.arguments) == {"city": "Bern"}


@case(mock=True)
def a_free_call_and_a_broken_one(context):
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    reply = chat(context, call, tools=[WEATHER], max_tokens=None)
    assert json.loads(reply.choices[0].message.tool_calls[0].function.arguments) == {"city": "Oslo"}
    broken = "<tool_call>{broken</tool_call>"
    assert chat(context, broken, tools=[WEATHER]).choices[0].message.content == broken


@case
def a_result_is_handed_back(context):
    first = chat(context, "Weather in Bern?", tools=[WEATHER], tool_choice="required",
                 parallel_tool_calls=False, max_tokens=200, temperature=0).choices[0].message
    messages = [*user("Weather in Bern?"), first,
                {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "sunny"}]
    reply = client(context).chat.completions.create(
        model=context.model, messages=messages, tools=[WEATHER], max_tokens=32)
    assert reply.choices[0].message.role == "assistant"


@case
def parts_and_roles(context):
    messages = [{"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Say hello"}], "name": "me"}]
    reply = client(context).chat.completions.create(
        model=context.model, messages=messages, max_tokens=16, user="u1", metadata={"a": "b"},
        store=False)
    assert reply.choices[0].message.content


@case
def text_completions(context):
    reply = client(context).completions.create(model=context.model, prompt=["One", "Two"],
                                               max_tokens=4, logprobs=2, n=2)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    scores = reply.choices[0].logprobs
    assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.text_offset) > 0
    assert all(len(top) >= 2 for top in scores.top_logprobs)


@case
def text_completions_in_a_stream(context):
    chunks = list(client(context).completions.create(
        model=context.model, prompt="Once upon a time", max_tokens=8, temperature=0, stream=True,
        stream_options={"include_usage": True}))
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    whole = client(context).completions.create(
        model=context.model, prompt="Once upon a time", max_tokens=8, temperature=0)
    assert text == whole.choices[0].text and chunks[-1].usage.completion_tokens > 0


@case
def echo_scores_a_prompt(context):
    reply = client(context).completions.create(model=context.model, prompt="One two three",
                                               max_tokens=1, echo=True, logprobs=1)
    scores = reply.choices[0].logprobs
    assert reply.choices[0].text.startswith("One two three")
    assert scores.token_logprobs[0] is None and scores.token_logprobs[1] <= 0
    assert len(scores.tokens) == reply.usage.prompt_tokens + 1


@case
def models(context):
    models = client(context).models.list().data
    assert context.model in [model.id for model in models]
    card = client(context).models.retrieve(context.model)
    assert card.object == "model" and card.model_extra["max_model_len"] > 0


@case
def raw_responses_carry_headers(context):
    raw = client(context).chat.completions.with_raw_response.create(
        model=context.model, messages=user("hi"), max_tokens=4,
        extra_headers={"x-request-id": "mine"})
    assert raw.headers["x-request-id"] == "mine" and raw.headers["x-understudy-arm"]
    assert raw.request_id == "mine" and raw.parse().choices


def fails(kind, ask):
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


@case
def errors_have_their_classes(context):
    error = fails(openai.NotFoundError, lambda: client(context).chat.completions.create(
        model="nobody", messages=user("x")))
    assert error.param == "model" and error.code == 404 and error.type == "NotFoundError"
    error = fails(openai.BadRequestError, lambda: chat(context, temperature=7))
    assert error.param == "temperature"
    error = fails(openai.BadRequestError, lambda: chat(context, tools=[]))
    assert error.param == "tools"
    error = fails(openai.BadRequestError, lambda: chat(context, max_tokens=10**6))
    assert "1000000" in error.message
    for more in ({"top_logprobs": 2}, {"stream_options": {"include_usage": True}}, {"n": 0},
                 {"extra_body": {"use_beam_search": True}}, {"response_format": {"type": "xml"}}):
        fails(openai.BadRequestError, lambda more=more: chat(context, **more))


@case(mock=True)
def an_error_in_the_middle_of_a_stream_is_raised(context):
    stream = chat(context, "aa", stream=True,
                  extra_body={"allowed_token_ids": [97], "bad_words": ["aa"]})
    error = fails(openai.APIError, lambda: list(stream))
    assert "nothing may come" in error.message


@case
def breaking_off_a_stream_frees_the_server(context):
    stream = chat(context, "long " * 200, max_tokens=500, stream=True)
    next(iter(stream))
    stream.close()
    assert chat(context, max_tokens=2).choices


@case
def vllm_parameters_in_the_extra_body(context):
    reply = chat(context, max_tokens=4, extra_body={
        "top_k": 5, "min_p": 0.01, "repetition_penalty": 1.1, "return_token_ids": True,
        "prompt_logprobs": 1, "return_weight_versions": True, "priority": 1, "cache_salt": "mine",
        "ignore_eos": True, "logprobs_mode": "processed_logprobs"}, logprobs=True)
    extra = reply.choices[0].model_extra
    assert len(extra["token_ids"]) == 4
    assert extra["weight_versions"][0]["end"] == 4
    assert len(reply.model_extra["prompt_token_ids"]) == reply.usage.prompt_tokens
    assert len(reply.model_extra["prompt_logprobs"]) == reply.usage.prompt_tokens


@case
def no_call_where_none_may_be_made(context):
    reply = chat(context, "Weather in Bern?", tools=[WEATHER], tool_choice="none").choices[0]
    assert reply.message.tool_calls is None and reply.finish_reason in ("stop", "length")
    reply = chat(context, "Weather in Bern?", tools=[WEATHER], tool_choice="auto").choices[0]
    assert reply.message.content or reply.message.tool_calls


@case
def a_choice_of_tools_must_make_sense(context):
    named = {"type": "function", "function": {"name": "nobody"}}
    for more in ({"tools": [WEATHER], "tool_choice": named}, {"tool_choice": "required"},
                 {"tools": [WEATHER], "tool_choice": "perhaps"}):
        error = fails(openai.BadRequestError, lambda more=more: chat(context, **more))
        assert error.param == "tool_choice", error


@case(mock=True)
def several_calls_at_once(context):
    calls = "".join(
        f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>\n'
        for city in ("Bern", "Oslo"))
    made = chat(context, calls, tools=[WEATHER], max_tokens=400).choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in made] == ["Bern", "Oslo"]
    assert made[0].id != made[1].id
    streamed = {}
    for chunk in chat(context, calls, tools=[WEATHER], max_tokens=400, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            streamed[call.index] = streamed.get(call.index, "") + (call.function.arguments or "")
    assert [json.loads(streamed[index])["city"] for index in (0, 1)] == ["Bern", "Oslo"]


@case
def a_bias_decides(context):
    _, _, said = context.post("/tokenize", {"prompt": "z"})
    reply = chat(context, temperature=0, max_tokens=3, logit_bias={str(said["tokens"][0]): 100},
                 extra_body={"ignore_eos": True})
    assert reply.choices[0].message.content == "zzz"


@case
def penalties_change_scores(context):
    asked = dict(temperature=1.0, seed=1, max_tokens=6, logprobs=True, top_logprobs=0)
    asked["extra_body"] = {"logprobs_mode": "processed_logprobs"}
    plain = chat(context, "????????", **asked)
    for name in ("presence_penalty", "frequency_penalty"):
        changed = chat(context, "????????", **asked, **{name: 2.0})
        pairs = list(zip(*([t.logprob for t in reply.choices[0].logprobs.content]
                           for reply in (plain, changed))))
        same = [math.isclose(before, after, abs_tol=1e-5) for before, after in pairs]
        assert same[0], "nothing was said before the first token"
        assert not all(same), (name, pairs)


@case(mock=True)
def stop_strings_are_held_back_in_a_stream(context):
    chunks = list(chat(context, "one two three", stop="two th", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one "
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].choices[0].model_extra["stop_reason"] == "two th"
    kept = chat(context, "one two three", stop="two", extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].message.content == "one two"


@case
def usage_counts_every_choice(context):
    reply = chat(context, "Say hello", n=3, max_tokens=4, extra_body={"ignore_eos": True})
    one = chat(context, "Say hello", max_tokens=4).usage
    assert reply.usage.completion_tokens == 12 and reply.usage.prompt_tokens == one.prompt_tokens


@case
def a_structured_reply_in_a_stream(context):
    schema = {"type": "object", "properties": {"size": {"enum": ["small", "large"]}},
              "required": ["size"], "additionalProperties": False}
    shape = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    chunks = chat(context, "How large is Bern?", response_format=shape, stream=True,
                  temperature=0)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(text)["size"] in ("small", "large")


@case
def choices_by_vllms_structured_outputs(context):
    reply = chat(context, "Yes or no?", extra_body={"structured_outputs": {"choice": ["yes", "no"]}})
    assert reply.choices[0].message.content in ("yes", "no")


@case
def text_completions_take_token_ids(context):
    _, _, said = context.post("/tokenize", {"prompt": "Once upon a time"})
    ask = lambda prompt: client(context).completions.create(  # noqa: E731
        model=context.model, prompt=prompt, max_tokens=6, temperature=0)
    by_text, by_ids = ask("Once upon a time"), ask(said["tokens"])
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert [choice.text for choice in ask([said["tokens"]] * 2).choices] == [by_ids.choices[0].text] * 2


@case
def who_answered_is_said_everywhere(context):
    raw = client(context).chat.completions.with_raw_response.create(
        model=context.model, messages=user("hi"), max_tokens=4,
        extra_body={"return_weight_versions": True})
    reply = raw.parse()
    assert raw.headers["x-request-id"] == reply.id
    assert raw.headers["x-understudy-trajectory"].startswith("traj_")
    assert raw.headers["x-understudy-arm"] == "base" and reply.model == context.model
    version = reply.choices[0].model_extra["weight_versions"][0]
    assert (version["version"], version["start"]) == (context.model, 0)
    assert reply.system_fingerprint == chat(context, max_tokens=1).system_fingerprint


@case
def every_parameter_of_the_client_is_documented(context):
    from openai.types import completion_create_params as completions
    from openai.types.chat import completion_create_params as chats

    table = context.documented_fields()
    for params in (chats.CompletionCreateParamsNonStreaming, completions.CompletionCreateParamsNonStreaming):
        unknown = [name for name in params.__annotations__ if name not in table]
        inherited = [name for base in params.__mro__ for name in getattr(base, "__annotations__", {})]
        unknown += [name for name in inherited if name not in table]
        assert not unknown, f"docs/API.md says nothing of {unknown}"
