"""LangChain's OpenAI integration."""

import pydantic
from harness import WEATHER, case
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI


def chat(context, **more):
    # Greedy, because a small model may otherwise fill its limit with white space.
    more = {"max_tokens": 200, "temperature": 0, **more}
    return ChatOpenAI(model=context.model, base_url=context.v1, api_key="none", max_retries=0, **more)


@case
def invoke(context):
    reply = chat(context).invoke([SystemMessage("Be brief."), HumanMessage("Say hello")])
    assert reply.content and reply.usage_metadata["total_tokens"] > 0
    assert reply.response_metadata["finish_reason"] in ("stop", "length")


@case
def stream_with_usage(context):
    whole = None
    for chunk in chat(context, stream_usage=True).stream("Say hello"):
        whole = chunk if whole is None else whole + chunk
    assert whole.content and whole.usage_metadata["output_tokens"] > 0


@case
def batch(context):
    replies = chat(context).batch(["one", "two", "three"])
    assert len(replies) == 3 and all(reply.content for reply in replies)


@case
def bound_tools(context):
    model = chat(context).bind_tools([WEATHER], tool_choice="weather")
    call = model.invoke("Weather in Bern?").tool_calls[0]
    assert call["name"] == "weather" and call["args"]["city"] in ("Bern", "Oslo")


@case
def streamed_tools(context):
    whole = None
    for chunk in chat(context).bind_tools([WEATHER], tool_choice="weather").stream("Weather?"):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["args"]["city"] in ("Bern", "Oslo")


@case
def a_tool_result(context):
    call = {"name": "weather", "args": {"city": "Bern"}, "id": "call_1"}
    messages = [HumanMessage("Weather?"), AIMessage("", tool_calls=[call]),
                ToolMessage("sunny", tool_call_id="call_1")]
    reply = chat(context).bind_tools([WEATHER]).invoke(messages)
    if context.is_mock:
        assert reply.content == "sunny"


class Size(pydantic.BaseModel):
    """How large a city is."""

    large: bool


@case
def structured_output_by_schema(context):
    model = chat(context).with_structured_output(Size, method="json_schema")
    assert isinstance(model.invoke("Is Bern large?"), Size)


@case
def structured_output_by_function(context):
    model = chat(context).with_structured_output(Size, method="function_calling")
    assert isinstance(model.invoke("Is Bern large?"), Size)


@case
def log_probabilities(context):
    reply = chat(context, logprobs=True, top_logprobs=1).invoke("Say hello")
    assert reply.response_metadata["logprobs"]["content"][0]["logprob"] <= 0


@case
def text_completions(context):
    model = OpenAI(model=context.model, base_url=context.v1, api_key="none", max_tokens=8)
    assert model.invoke("Once upon a time")
    assert "".join(model.stream("Once upon a time"))
