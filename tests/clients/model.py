"""A model that always asks for the weather first and then tells it, as an OpenAI server.

It remembers the response ids that it minted and the headers it was sent, which is what the cases
hold the server's account against.
"""

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = "It is rainy in Paris, 14C."
ARGUMENTS = '{"city": "Paris"}'
USAGE = {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30}


class Model:
    """Serves at `url` until it is closed."""

    def __init__(self):
        self.minted, self.headers = [], []
        self.numbers = itertools.count(1)
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                model.headers.append(dict(self.headers))
                if self.path.endswith("/responses"):
                    model.responses(self, request)
                else:
                    model.chat(self, request)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def mint(self, prefix):
        self.minted.append(f"{prefix}-live{next(self.numbers):04}")
        return self.minted[-1]

    def chat(self, handler, request):
        name = request.get("model", "tiny")
        asks = request.get("tools") and not any(m["role"] == "tool" for m in request["messages"])
        message = {"role": "assistant", "content": ANSWER}
        if asks:
            function = {"name": request["tools"][0]["function"]["name"], "arguments": ARGUMENTS}
            call = {"id": f"call_{next(self.numbers)}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "tool_calls" if asks else "stop"
        head = {"id": self.mint("chatcmpl"), "created": 1767225600, "model": f"{name}@7"}
        if not request.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
            body = {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            return reply(handler, body)
        chunk = lambda delta, reason=None: {
            **head, "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        if asks:
            deltas = [{"role": "assistant", "tool_calls": [{"index": 0, **call}]}]
        else:
            words = ["It is ", "rainy ", "in Paris, 14C."]
            deltas = [{"role": "assistant", "content": word} for word in words]
        events = [chunk(delta) for delta in deltas] + [chunk({}, reason)]
        if (request.get("stream_options") or {}).get("include_usage"):
            events.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return reply(handler, text, "text/event-stream")

    def responses(self, handler, request):
        given = request.get("input")
        told = isinstance(given, list) and any(
            isinstance(item, dict) and item.get("type") == "function_call_output" for item in given
        )
        tools = request.get("tools") or []
        functions = [tool for tool in tools if tool.get("type") == "function"]
        if functions and not told:
            number = next(self.numbers)
            output = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}",
                      "name": functions[0]["name"], "arguments": ARGUMENTS, "status": "completed"}
        else:
            content = [{"type": "output_text", "text": ANSWER, "annotations": []}]
            output = {"type": "message", "id": "msg_1", "role": "assistant",
                      "status": "completed", "content": content}
        usage = {"input_tokens": 21, "input_tokens_details": {"cached_tokens": 0},
                 "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 0},
                 "total_tokens": 30}
        reply(handler, {
            "id": self.mint("resp"), "object": "response", "created_at": 1767225600,
            "status": "completed", "model": f"{request.get('model', 'tiny')}@7", "output": [output],
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": tools, "error": None,
            "incomplete_details": None, "instructions": request.get("instructions"),
            "metadata": {}, "temperature": 1.0, "top_p": 1.0, "usage": usage,
        })


def reply(handler, body, kind="application/json"):
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    handler.send_response(200)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
