#!/usr/bin/env python3
"""Writes two of the captures in protobuf, by the official definitions.

    pip install opentelemetry-proto
    python3 make_protobuf.py
"""

import json
import pathlib

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CAPTURES = pathlib.Path(__file__).parent / "captures"


def merged(name, payload, message, records):
    """All requests of one signal as one."""
    capture = json.loads((CAPTURES / f"{name}.json").read_text())
    for request in capture["requests"]:
        if request["payload"] == payload:
            part = type(message)()
            json_format.ParseDict(request["body"], part)
            getattr(message, records).extend(getattr(part, records))
    return message.SerializeToString(deterministic=True)


if __name__ == "__main__":
    traces = merged("traceloop", "otlp_traces", ExportTraceServiceRequest(), "resource_spans")
    (CAPTURES / "traceloop.traces.pb").write_bytes(traces)
    logs = merged("v2_legacy", "otlp_logs", ExportLogsServiceRequest(), "resource_logs")
    (CAPTURES / "v2_legacy.logs.pb").write_bytes(logs)
    print(len(traces), len(logs))
