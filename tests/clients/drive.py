"""One real client, in a process and an interpreter of its own: `python drive.py NAME`.

MODEL is the model's `/v1`, SERVER and GRPC where telemetry goes. All of them go through the same
run: one question, one tool, one answer.
"""

import json
import os
import sys

MODEL, SERVER, GRPC = (os.environ[name] for name in ("MODEL", "SERVER", "GRPC"))
SYSTEM, QUESTION, FOUND = "Be brief.", "Weather in Paris?", "rain 14C"
TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}}


def tracing(encoding="protobuf"):
    """OpenTelemetry's SDK with its own exporter; tells how to end it."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    if encoding == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        exporter = OTLPSpanExporter(endpoint=GRPC, insecure=True)
    elif encoding == "json":
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
        exporter = OTLPSpanExporter(endpoint=f"{SERVER}/v1/traces")
    else:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        compression = Compression.Gzip if encoding == "gzip" else Compression.NoCompression
        exporter = OTLPSpanExporter(endpoint=f"{SERVER}/v1/traces", compression=compression)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def logging(encoding="protobuf"):
    from opentelemetry import _logs
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

    if encoding == "json":
        from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter
    else:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    provider = LoggerProvider()
    exporter = OTLPLogExporter(endpoint=f"{SERVER}/v1/logs")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    _logs.set_logger_provider(provider)
    return provider


def openai_run(question=QUESTION, tool=lambda city: FOUND):
    """Two calls by OpenAI's own client, the second as a stream."""
    from openai import OpenAI

    client = OpenAI(base_url=MODEL, api_key="none")
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    first = client.chat.completions.create(
        model="tiny", messages=messages, tools=[TOOL], temperature=0.2, seed=7
    )
    asked = first.choices[0].message
    told = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": tool("Paris")}
    messages += [asked.model_dump(exclude_none=True), told]
    for _ in client.chat.completions.create(model="tiny", messages=messages, tools=[TOOL], stream=True):
        pass


def genai_content(mode):
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = mode


def genai_openai(mode="SPAN_ONLY", encoding="protobuf"):
    genai_content(mode)
    spans = tracing(encoding)
    logs = logging("json" if encoding == "json" else "protobuf")
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    openai_run()
    spans.shutdown()
    logs.shutdown()


def genai_langchain(encoding="protobuf"):
    genai_content("SPAN_ONLY")
    spans = tracing(encoding)
    from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=spans)
    from langchain.agents import create_agent

    agent = create_agent(chat_model(), [langchain_tool()], name="weather", system_prompt=SYSTEM)
    agent.invoke({"messages": [("user", QUESTION)]}, config={"configurable": {"thread_id": "thread-1"}})
    spans.shutdown()


def chat_model():
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="tiny", base_url=MODEL, api_key="none")


def langchain_tool():
    from langchain_core.tools import tool

    @tool
    def get_weather(city: str) -> str:
        "The weather of a city"
        return FOUND

    return get_weather


def genai_agents(and_openai):
    genai_content("SPAN_ONLY")
    spans = tracing()
    from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=spans)
    if and_openai:
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=spans)
    agents_run()
    spans.shutdown()


def agents_run():
    """OpenAI's Agents SDK, which speaks the responses API."""
    from agents import Agent, Runner, function_tool, trace

    @function_tool
    def get_weather(city: str) -> str:
        "The weather of a city"
        return FOUND

    agent = Agent(name="weather", instructions=SYSTEM, tools=[get_weather], model="tiny")
    with trace("run", group_id="group-1", metadata={"user_id": "user-9"}):
        Runner.run_sync(agent, QUESTION)


def openinference_openai():
    spans = tracing("gzip")
    from openinference.instrumentation import using_session, using_user
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=spans)
    tracer = spans.get_tracer("application")
    with using_session("session-1"), using_user("user-9"), tracer.start_as_current_span("handle"):
        openai_run()
    spans.shutdown()


def openinference_langchain():
    spans = tracing()
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=spans)
    langgraph_run()
    spans.shutdown()


def langgraph_run():
    from langgraph.prebuilt import create_react_agent

    agent = create_react_agent(chat_model(), [langchain_tool()])
    metadata = {"session_id": "session-1", "user_id": "user-9"}
    config = {"configurable": {"thread_id": "thread-1"}, "metadata": metadata}
    agent.invoke({"messages": [("system", SYSTEM), ("user", QUESTION)]}, config=config)


def openinference_agents():
    spans = tracing()
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=spans)
    agents_run()
    spans.shutdown()


def langsmith_environment(**more):
    os.environ.update(LANGSMITH_TRACING="true", LANGSMITH_ENDPOINT=SERVER, LANGSMITH_API_KEY="none",
                      LANGSMITH_PROJECT="live", **more)


def langsmith_native():
    """Its own protocol, and a verdict on the run through the same client."""
    langsmith_environment()
    from langchain_core.tracers.context import collect_runs
    from langsmith import Client

    with collect_runs() as runs:
        langgraph_run()
    client = Client()
    run = runs.traced_runs[0]
    client.create_feedback(run_id=run.id, trace_id=run.trace_id, key="thumbs", score=1)
    client.flush()
    from langchain_core.tracers.langchain import wait_for_all_tracers

    wait_for_all_tracers()


def langsmith_otlp():
    langsmith_environment(LANGSMITH_OTEL_ENABLED="true", LANGSMITH_OTEL_ONLY="true",
                          OTEL_EXPORTER_OTLP_ENDPOINT=SERVER)
    langgraph_run()
    from langchain_core.tracers.langchain import wait_for_all_tracers
    from langsmith import Client
    from opentelemetry import trace

    wait_for_all_tracers()
    Client().flush()
    trace.get_tracer_provider().shutdown()


def agents_native():
    from agents import set_trace_processors
    from agents.tracing import get_trace_provider
    from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor

    exporter = BackendSpanExporter(api_key="none", endpoint=f"{SERVER}/v1/traces/ingest")
    set_trace_processors([BatchTraceProcessor(exporter)])
    agents_run()
    get_trace_provider().shutdown()


def pydantic_ai(version):
    spans = tracing()
    from pydantic_ai import Agent, InstrumentationSettings
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    Agent.instrument_all(InstrumentationSettings(tracer_provider=spans, version=version))
    provider = OpenAIProvider(base_url=MODEL, api_key="none")
    agent = Agent(OpenAIChatModel("tiny", provider=provider), instructions=SYSTEM)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        "The weather of a city"
        return FOUND

    agent.run_sync(QUESTION)
    spans.shutdown()


def langfuse():
    """Its wrapper of OpenAI's client, and a score on the trace."""
    os.environ.update(LANGFUSE_PUBLIC_KEY="pk-lf-live", LANGFUSE_SECRET_KEY="sk-lf-live",
                      LANGFUSE_HOST=SERVER, LANGFUSE_BASE_URL=SERVER)
    from langfuse import get_client, observe, propagate_attributes
    from langfuse.openai import OpenAI

    client, fuse = OpenAI(base_url=MODEL, api_key="none"), get_client()

    @observe()
    def handle(question):
        with propagate_attributes(session_id="session-1", user_id="user-9"):
            client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": question}]
            )
        fuse.score_current_trace(name="thumbs", value=1)

    handle(QUESTION)
    fuse.flush()
    fuse.shutdown()


def traceloop():
    # Prompts and metrics are for its own service.
    os.environ.update(TRACELOOP_TELEMETRY="false", TRACELOOP_SYNC_ENABLED="false",
                      TRACELOOP_METRICS_ENABLED="false")
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import tool, workflow
    from traceloop.sdk.instruments import Instruments

    Traceloop.init(app_name="live", api_endpoint=SERVER, disable_batch=True, api_key="none",
                   instruments={Instruments.OPENAI})

    @tool(name="get_weather")
    def get_weather(city):
        return FOUND

    @workflow(name="run")
    def run():
        Traceloop.set_association_properties({"user_id": "user-9", "session_id": "session-1"})
        openai_run(tool=get_weather)

    run()


def instrumented_openai(module):
    """The instrumentations that came before: message events, and numbered attributes."""
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    spans = tracing()
    logs = logging()
    instrumentor = __import__(module, fromlist=["OpenAIInstrumentor"]).OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=spans)
    openai_run()
    spans.shutdown()
    logs.shutdown()


def edge_attributes(encoding):
    """What has broken receivers: lists without anything, and numbers that JSON has no word for."""
    genai_content("SPAN_ONLY")
    spans = tracing(encoding)
    with spans.get_tracer("application").start_as_current_span("odd") as span:
        for name, value in [("empty", []), ("nan", float("nan")), ("infinite", float("inf")),
                            ("large", 2**62), ("text", "ä\u0000\U0001f600"), ("list", [1, 2])]:
            span.set_attribute(name, value)
    with spans.get_tracer("application").start_as_current_span("chat tiny") as span:
        part = lambda text: [{"type": "text", "content": text}]
        message = lambda role, text: json.dumps([{"role": role, "parts": part(text)}])
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.request.temperature", float("nan"))
        span.set_attribute("gen_ai.response.finish_reasons", [])
        span.set_attribute("gen_ai.input.messages", message("user", QUESTION))
        span.set_attribute("gen_ai.output.messages", message("assistant", "It rains."))
    spans.shutdown()


def instrumented_student():
    """An application whose model is the server itself, and which is instrumented as well."""
    genai_content("SPAN_ONLY")
    spans = tracing()
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    from openai import OpenAI

    client = OpenAI(base_url=f"{SERVER}/v1", api_key="none")
    reply = client.chat.completions.create(
        model="mock", messages=[{"role": "user", "content": QUESTION}], max_tokens=8, user="user-9"
    )
    print(reply.id)
    spans.shutdown()


RUNS = {
    "genai-openai-spans": lambda: genai_openai(),
    "genai-openai-events": lambda: genai_openai("EVENT_ONLY"),
    "genai-openai-both": lambda: genai_openai("SPAN_AND_EVENT"),
    "genai-openai-silent": lambda: genai_openai("NO_CONTENT"),
    "genai-openai-json": lambda: genai_openai("SPAN_ONLY", "json"),
    "genai-openai-json-events": lambda: genai_openai("EVENT_ONLY", "json"),
    "genai-openai-gzip": lambda: genai_openai("SPAN_ONLY", "gzip"),
    "genai-openai-grpc": lambda: genai_openai("SPAN_ONLY", "grpc"),
    "genai-langchain": lambda: genai_langchain(),
    "genai-langchain-json": lambda: genai_langchain("json"),
    "genai-agents-alone": lambda: genai_agents(False),
    "genai-agents-and-openai": lambda: genai_agents(True),
    "openinference-openai": openinference_openai,
    "openinference-langchain": openinference_langchain,
    "openinference-agents": openinference_agents,
    "langsmith": langsmith_native,
    "langsmith-otlp": langsmith_otlp,
    "agents": agents_native,
    "pydantic-ai-2": lambda: pydantic_ai(2),
    "pydantic-ai-5": lambda: pydantic_ai(5),
    "langfuse": langfuse,
    "traceloop": traceloop,
    "openai-v2": lambda: instrumented_openai("opentelemetry.instrumentation.openai_v2"),
    "openllmetry-old": lambda: instrumented_openai("opentelemetry.instrumentation.openai"),
    "edge-protobuf": lambda: edge_attributes("protobuf"),
    "edge-json": lambda: edge_attributes("json"),
    "student": instrumented_student,
}

if __name__ == "__main__":
    # The Agents SDK finds its model here.
    os.environ.update(OPENAI_API_KEY="none", OPENAI_BASE_URL=MODEL)
    RUNS[sys.argv[1]]()
