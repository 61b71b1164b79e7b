"""LiteLLM, as an OpenAI endpoint and as a hosted vLLM."""

import asyncio
import json

import litellm
from harness import WEATHER, case

litellm.telemetry = False
litellm.suppress_debug_info = True


def ask(context, provider, text="Say hello", **more):
    more = {"max_tokens": 200, "temperature": 0, **more}
    return litellm.completion(
        model=f"{provider}/{context.model}", api_base=context.v1, api_key="none",
        messages=[{"role": "user", "content": text}], num_retries=0, **more)


def for_both(check):
    for provider in ("openai", "hosted_vllm"):
        check(provider)


@case
def whole_replies(context):
    def check(provider):
        reply = ask(context, provider)
        assert reply.choices[0].message.content and reply.usage.total_tokens > 0

    for_both(check)


@case
def streams(context):
    def check(provider):
        chunks = list(ask(context, provider, stream=True, stream_options={"include_usage": True}))
        whole = litellm.stream_chunk_builder(chunks)
        assert whole.choices[0].message.content and whole.usage.completion_tokens > 0

    for_both(check)


@case
def calls(context):
    def check(provider):
        reply = ask(context, provider, "Weather in Bern?", tools=[WEATHER], tool_choice="required",
                    parallel_tool_calls=False)
        call = reply.choices[0].message.tool_calls[0]
        assert json.loads(call.function.arguments)["city"] in ("Bern", "Oslo")

    for_both(check)


@case
def streamed_calls(context):
    chunks = list(ask(context, "hosted_vllm", "Weather in Bern?", tools=[WEATHER],
                      tool_choice="required", parallel_tool_calls=False, stream=True))
    call = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments)


@case
def text_completions(context):
    reply = litellm.text_completion(
        model=f"text-completion-openai/{context.model}", api_base=context.v1, api_key="none",
        prompt="Once upon a time", max_tokens=8)
    assert reply.choices[0].text


@case
def sampling_and_extras(context):
    reply = ask(context, "hosted_vllm", n=2, seed=3, temperature=1, stop=["\n\n"], top_k=4, min_p=0.01,
                presence_penalty=0.1, logprobs=True, top_logprobs=1)
    assert len(reply.choices) == 2


@case
def errors_have_their_classes(context):
    for kind, more in ((litellm.BadRequestError, {"temperature": 9}),):
        try:
            ask(context, "openai", **more)
        except kind:
            continue
        raise AssertionError(kind)


@case
def asynchronously(context):
    async def several():
        asked = [litellm.acompletion(
            model=f"hosted_vllm/{context.model}", api_base=context.v1, api_key="none",
            messages=[{"role": "user", "content": str(n)}], max_tokens=8) for n in range(4)]
        return await asyncio.gather(*asked)

    assert len(asyncio.run(several())) == 4
