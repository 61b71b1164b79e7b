"""What cases share: how they are listed and what they are run against."""

import dataclasses
import json
import pathlib
import urllib.error
import urllib.request

CASES = []


@dataclasses.dataclass
class Context:
    url: str
    model: str
    is_mock: bool
    loras: pathlib.Path

    @property
    def v1(self):
        return f"{self.url}/v1"

    def call(self, method, path, body=None, headers=None):
        """Status, headers and body, which is JSON where it can be read as such."""
        data = None if body is None else json.dumps(body).encode()
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
