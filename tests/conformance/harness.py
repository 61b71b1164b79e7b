"""What cases share: how they are listed and what they are run against."""

import dataclasses
import http.client
import json
import pathlib
import time
import urllib.error
import urllib.parse
import urllib.request

CASES = []
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
GENERATE = "/inference/v1/generate"


@dataclasses.dataclass
class Context:
    url: str
    # The mock engine with nothing allowed; absent beside a server that ran already.
    closed: str | None
    model: str
    is_mock: bool
    loras: pathlib.Path

    @property
    def v1(self):
        return f"{self.url}/v1"

    def call(self, method, path, body=None, headers=None):
        """Status, headers and body, which is JSON where it can be read as such."""
        data = None if body is None else json.dumps(body).encode()
        return self.raw(method, path, data, headers)

    def raw(self, method, path, data, headers=None):
        """The same with a body that need not be JSON."""
        headers = {"content-type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            reply = urllib.request.urlopen(request, timeout=120)
        except urllib.error.HTTPError as error:
            reply = error
        text = reply.read().decode()
        try:
            return reply.status, reply.headers, json.loads(text)
        except ValueError:
            return reply.status, reply.headers, text

    def post(self, path, body=None, headers=None):
        return self.call("POST", path, body or {}, headers)

    def get(self, path):
        return self.call("GET", path)

    def chat(self, text="hi", **more):
        """A chat body."""
        messages = [{"role": "user", "content": text}]
        return {"model": self.model, "messages": messages, "max_tokens": 8, **more}

    def stream(self, path, body):
        """The events of a stream, as text: what stands between two empty lines."""
        status, headers, text = self.post(path, {**body, "stream": True})
        assert status == 200, text
        assert headers["content-type"].startswith("text/event-stream"), headers["content-type"]
        assert text.endswith("\n\n"), "the last event has no end"
        return text[:-2].split("\n\n")

    def chunks(self, path, body):
        """The JSON of a stream, which must end in [DONE]."""
        *events, last = self.stream(path, body)
        assert last == "data: [DONE]", last
        return [json.loads(event.removeprefix("data: ")) for event in events]

    def send(self, path, body):
        """A connection on which a request was sent, and nothing was read."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.url).netloc, timeout=120)
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        return connection

    def refuses(self, body, field, status=400, path=CHAT):
        """The request is refused, naming the field; the error is handed back."""
        said, _, reply = self.post(path, body)
        assert said == status, (said, reply)
        error = reply["error"]
        assert error["code"] == status and error["param"] == field, error
        return error

    def documented_fields(self):
        """The rows of docs/API.md: for each field what becomes of it in chat and in completions."""
        document = pathlib.Path(__file__).resolve().parents[2] / "docs/API.md"
        words = {"honoured", "accepted", "refused", "–"}
        table = {}
        for line in document.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split("|")]
            if line.startswith("| `") and len(cells) >= 3 and words.issuperset(cells[1:3]):
                table[cells[0].strip("`")] = tuple(cells[1:3])
        return table

    def metric(self, name, **labels):
        """The sum of the samples of a name that have these labels."""
        total = 0.0
        for line in self.get("/metrics")[2].splitlines():
            written = all(f'{key}="{value}"' in line for key, value in labels.items())
            if line.startswith(name + "{") and written:
                total += float(line.rsplit(" ", 1)[1])
        return total


def until(what, done, seconds=20):
    """Waits for something that takes its time."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def case(function=None, *, mock=False):
    """Lists a function as a case. `mock` marks one that counts on the mock's way to answer."""

    def listed(function):
        module = function.__module__.removesuffix("_cases")
        CASES.append((f"{module}.{function.__name__}", function, mock))
        return function

    return listed(function) if function else listed


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Bern", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
