"""Sends spans, data points and log records with the unmodified OpenTelemetry SDK, and prints what was acknowledged.

usage: send_otlp.py grpc|http ENDPOINT COUNT SERVICE [gzip] [NAME=VALUE ...]

NAME=VALUE are headers. COUNT of each signal is sent; once the receiver has acknowledged them, a line each:
`span TRACE_ID SPAN_ID`, `point ID`, `log ID` (ID is the attribute test.id). What was not acknowledged is a line
`refused SIGNAL` instead (the SDK logs the reason), and the exit code is 1.
"""

import importlib
import logging
import sys
import warnings

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

# The parts of the SDK that are named differently at each signal: module, class, path over HTTP.
SIGNALS = {
    "traces": ("trace_exporter", "OTLPSpanExporter", "/v1/traces"),
    "metrics": ("metric_exporter", "OTLPMetricExporter", "/v1/metrics"),
    "logs": ("_log_exporter", "OTLPLogExporter", "/v1/logs"),
}

failed = False
# Exporters run in threads of their own: nothing is printed before all are done.
told = []


def exporter(signal, protocol, endpoint, gzip, headers):
    module, name, path = SIGNALS[signal]
    package = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}")
    options = {"headers": headers, "timeout": 20}
    if protocol == "grpc":
        import grpc

        compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        return getattr(package, name)(endpoint=endpoint, insecure=True, compression=compression, **options)
    from opentelemetry.exporter.otlp.proto.http import Compression

    compression = Compression.Gzip if gzip else Compression.NoCompression
    return getattr(package, name)(endpoint=endpoint + path, compression=compression, **options)


def acknowledging(signal, inner, lines):
    """Tells the items of each export once it has been acknowledged."""
    send = inner.export

    def export(items, *arguments, **named):
        global failed
        result = send(items, *arguments, **named)
        if result.name == "SUCCESS":
            told.extend(lines(items))
        else:
            failed = True
            told.append(f"refused {signal}")
        return result

    inner.export = export
    return inner


def span(item):
    return f"span {item.context.trace_id:032x} {item.context.span_id:016x}"


def points(data):
    metrics = [m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics]
    return [f"point {point.attributes['test.id']}" for metric in metrics for point in metric.data.data_points]


def log(item):
    return f"log {item.log_record.attributes['test.id']}"


def main():
    logging.basicConfig(level=logging.WARNING)
    warnings.simplefilter("ignore")
    protocol, endpoint, count, service, *further = sys.argv[1:]
    count, gzip = int(count), "gzip" in further
    headers = dict(word.split("=", 1) for word in further if "=" in word)
    resource = Resource.create({"service.name": service})

    def made(signal, lines):
        return acknowledging(signal, exporter(signal, protocol, endpoint, gzip, headers), lines)

    tracing = TracerProvider(resource=resource)
    batches = BatchSpanProcessor(made("traces", lambda spans: map(span, spans)), max_queue_size=max(count, 512))
    tracing.add_span_processor(batches)
    tracer = tracing.get_tracer("integration")
    for number in range(count):
        tracer.start_span(f"span-{number}", attributes={"test.id": f"{service}-{number}"}).end()

    reader = PeriodicExportingMetricReader(made("metrics", points), export_interval_millis=3_600_000)
    # Shutting it down would send the same points again.
    meters = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
    counter = meters.get_meter("integration").create_counter("test.count")
    for number in range(count):
        counter.add(1, {"test.id": f"{service}-{number}"})

    records = LoggerProvider(resource=resource)
    exporting = made("logs", lambda batch: map(log, batch))
    records.add_log_record_processor(BatchLogRecordProcessor(exporting, max_queue_size=max(count, 512)))
    logger = records.get_logger("integration")
    for number in range(count):
        attributes = {"test.id": f"{service}-{number}"}
        logger.emit(LogRecord(severity_number=SeverityNumber.INFO, body=f"record {number}", attributes=attributes))

    for provider in (tracing, meters, records):
        provider.force_flush(30_000)
    for provider in (tracing, records):
        provider.shutdown()
    print(*told, sep="\n")
    sys.exit(1 if failed else 0)


main()
