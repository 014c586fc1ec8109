"""Sends spans with the unmodified OpenTelemetry SDK and prints their ids, one `trace_id span_id` a line.

usage: send_trace.py grpc|http ENDPOINT COUNT
"""

import sys

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def exporter(protocol, endpoint):
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=20)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint, timeout=20)


def main():
    protocol, endpoint, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    provider = TracerProvider(resource=Resource.create({"service.name": f"python-{protocol}"}))
    provider.add_span_processor(BatchSpanProcessor(exporter(protocol, endpoint)))
    tracer = provider.get_tracer("hesper.integration")
    for number in range(count):
        with tracer.start_as_current_span(f"span-{number}") as span:
            context = span.get_span_context()
            print(f"{context.trace_id:032x} {context.span_id:016x}")
    if not provider.force_flush(30_000):
        sys.exit("the spans were not exported in 30 s")
    provider.shutdown()


main()
