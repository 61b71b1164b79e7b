"""Sends spans and logs with OpenTelemetry's own OTLP/gRPC exporters and looks for them in the journal.

    understudy serve --mock-engine --listen 127.0.0.1:8700 --grpc 127.0.0.1:4317
    python tests/golden/check_grpc.py 127.0.0.1:4317 http://127.0.0.1:8700

Needs `opentelemetry-sdk` and `opentelemetry-exporter-otlp-proto-grpc`.
"""

import json
import sys
import time
import urllib.request

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
import grpc


def spans(count):
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("check")
    for nth in range(count):
        with tracer.start_as_current_span("chat") as span:
            message = lambda role, text: json.dumps(
                [{"role": role, "parts": [{"type": "text", "content": text}]}]
            )
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.input.messages", message("user", f"question {nth}"))
            span.set_attribute("gen_ai.output.messages", message("assistant", f"answer {nth}"))
    return kept.get_finished_spans()


def steps(url):
    with urllib.request.urlopen(f"{url}/api/v1/journal") as reply:
        return json.load(reply)["steps"]


def main(address, url):
    before = steps(url)
    sent = 0
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        exporter = OTLPSpanExporter(endpoint=address, insecure=True, compression=compression)
        assert exporter.export(spans(20)) == SpanExportResult.SUCCESS, compression
        sent += 20
    deadline = time.time() + 20
    while steps(url) < before + sent:
        assert time.time() < deadline, (steps(url), before + sent)
        time.sleep(0.1)
    print(f"{sent} spans became steps")


if __name__ == "__main__":
    main(*sys.argv[1:])
