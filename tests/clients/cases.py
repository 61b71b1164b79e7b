"""What must have arrived after each client's run, read back through the server's own commands.

A case is a client, the requirements it runs with, and what is asserted about the records that
`understudy dataset records` shows when the server has read everything.
"""

import dataclasses
import json
import time
import urllib.request

ANSWER, FOUND, QUESTION, SYSTEM = "It is rainy in Paris, 14C.", "rain 14C", "Weather in Paris?", "Be brief."
CASES = []


@dataclasses.dataclass
class Arrived:
    """A run's end: the journal's records, the model's own account, and the server."""

    steps: list
    outcomes: list
    minted: list
    model_headers: list
    printed: str
    url: str
    records: object

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=20) as reply:
            return json.load(reply)

    def post(self, path, body):
        data, kind = json.dumps(body).encode(), {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, kind), timeout=20) as reply:
            return reply.status, json.load(reply)


def case(client, requirements="current", steps=2):
    """Lists a function as what is asserted after a client's run; it is waited for so many steps."""

    def listed(function):
        CASES.append((client, requirements, steps, function))
        return function

    return listed


def text(message):
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def two_steps(arrived, session=None, subject=None, system=SYSTEM, responses=True):
    """One conversation: a call that asks for the tool, and one that was told and answers."""
    assert len(arrived.steps) == 2, [step["response_id"] for step in arrived.steps]
    first, second = arrived.steps
    assert first["trajectory"] == second["trajectory"], "the run was torn apart"
    calls = first["reply"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["get_weather"], first["reply"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Paris"}, calls
    assert text(second["reply"]) == ANSWER, second["reply"]
    roles = [message["role"] for message in second["prompt"]]
    assert roles == (["system"] if system else []) + ["user", "assistant", "tool"], roles
    said = [text(message) for message in second["prompt"]]
    assert QUESTION in said and (not system or said[0] == system), said
    assert FOUND in said[-1], said
    if responses:
        assert [step["response_id"] for step in arrived.steps] == arrived.minted[:2], arrived.minted
        judged(arrived)
    for step in arrived.steps:
        assert step["served"]["base"].startswith("tiny"), step["served"]
        assert (step.get("session"), step.get("subject")) == (session, subject), step.get("session")


def judged(arrived):
    """A verdict on the response, said through the API, is linked to what telemetry told."""
    target = arrived.steps[-1]["response_id"]
    status, told = arrived.post("/v1/feedback", {"response_id": target, "signal": "accept"})
    assert (status, told["results"][0]["state"]) == (202, "linked"), told


for run in ["spans", "events", "both", "json", "json-events", "gzip", "grpc"]:

    @case(f"genai-openai-{run}")
    def genai_openai(arrived):
        # Two calls that nothing but what was said ties together.
        two_steps(arrived)


@case("genai-openai-silent", steps=0)
def genai_openai_silent(arrived):
    # Content is off: a call without words is no step, and nothing is made up.
    assert arrived.steps == [] and arrived.get("/api/v1/journal")["steps"] == 0


@case("genai-langchain")
@case("genai-langchain-json")
def genai_langchain(arrived):
    two_steps(arrived, session="thread-1")


@case("genai-agents-alone", steps=0)
def genai_agents_alone(arrived):
    assert arrived.steps == []


@case("genai-agents-and-openai")
def genai_agents_and_openai(arrived):
    two_steps(arrived, session="group-1")


@case("openinference-openai")
@case("openinference-langchain")
def openinference(arrived):
    two_steps(arrived, session="session-1", subject="user-9")


@case("openinference-agents")
def openinference_agents(arrived):
    two_steps(arrived)


@case("langsmith")
def langsmith(arrived):
    two_steps(arrived, session="session-1", subject="user-9")
    assert [outcome["signal"]["kind"] for outcome in arrived.outcomes] == ["rating"], arrived.outcomes


@case("langsmith-otlp")
def langsmith_otlp(arrived):
    two_steps(arrived, session="session-1", subject="user-9")


@case("agents", steps=0)
def agents(arrived):
    # It tells ids of responses and no words; they come from whoever served the responses.
    assert arrived.steps == []


@case("pydantic-ai-2")
@case("pydantic-ai-5")
def pydantic_ai(arrived):
    session = arrived.steps[0].get("session")
    assert session, "it makes up a conversation's id"
    two_steps(arrived, session=session)


@case("langfuse", steps=1)
def langfuse(arrived):
    (step,) = arrived.steps
    assert (text(step["prompt"][0]), text(step["reply"])) == (QUESTION, ANSWER)
    assert (step["session"], step["subject"]) == ("session-1", "user-9")
    # The score was sent beside the trace, whose id it names.
    assert [outcome["signal"]["kind"] for outcome in arrived.outcomes] == ["rating"], arrived.outcomes


@case("traceloop", "traceloop")
def traceloop(arrived):
    two_steps(arrived, session="session-1", subject="user-9")
    assert all("traceparent" in {name.lower() for name in headers} for headers in arrived.model_headers)


@case("openai-v2", "openai-v2")
@case("openllmetry-old", "openllmetry-old")
def older(arrived):
    two_steps(arrived)


@case("edge-protobuf", steps=1)
@case("edge-json", steps=1)
def edge(arrived):
    # The odd span costs nobody the other one.
    (step,) = arrived.steps
    assert (text(step["prompt"][0]), text(step["reply"])) == (QUESTION, "It rains.")


@case("student", steps=1)
def student(arrived):
    # The server's own record and the client's telemetry are of one call.
    (step,) = arrived.steps
    assert step["response_id"] == arrived.printed.strip(), (step["response_id"], arrived.printed)
    assert step["subject"] == "user-9" and step["task"] == "base", step
    time.sleep(1.5)
    assert len(arrived.records()[0]) == 1, "the client's account was stored again"
    judged(arrived)
