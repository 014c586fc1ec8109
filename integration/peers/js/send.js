// Sends spans, data points and log records with the unmodified OpenTelemetry SDK, and prints what was acknowledged.
//
// usage: node send.js grpc|http|json ENDPOINT COUNT SERVICE [gzip] [NAME=VALUE ...]
//
// `http` is protobuf over HTTP, `json` is JSON over HTTP; NAME=VALUE are headers. COUNT of each signal is sent; once the receiver has
// acknowledged them, a line each: `span TRACE_ID SPAN_ID`, `point ID`, `log ID` (ID is the attribute test.id).
// What was not acknowledged is a line `refused SIGNAL REASON` instead, and the exit code is 1.
"use strict";

const { diag, DiagLogLevel } = require("@opentelemetry/api");
const { SeverityNumber } = require("@opentelemetry/api-logs");
const { CompressionAlgorithm } = require("@opentelemetry/otlp-exporter-base");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { NodeTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-node");
const { MeterProvider, PeriodicExportingMetricReader } = require("@opentelemetry/sdk-metrics");
const { LoggerProvider, BatchLogRecordProcessor } = require("@opentelemetry/sdk-logs");
const grpc = require("@grpc/grpc-js");

const [protocol, endpoint, countText, service, ...further] = process.argv.slice(2);
const count = Number(countText);
const compression = further.includes("gzip") ? CompressionAlgorithm.GZIP : CompressionAlgorithm.NONE;
const headers = Object.fromEntries(
  further.filter((word) => word.includes("=")).map((word) => [word.split("=", 1)[0], word.slice(word.indexOf("=") + 1)]),
);
const PACKAGES = { grpc: "grpc", http: "proto", json: "http" };
let failed = false;

diag.setLogger({ error: console.error, warn: console.error, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

// The exporter of a signal: its package and its class, its path over HTTP.
function exporter(signal, className, path) {
  const made = require(`@opentelemetry/exporter-${signal}-otlp-${PACKAGES[protocol]}`)[className];
  const options = { compression, timeoutMillis: 20_000, url: protocol === "grpc" ? endpoint : endpoint + path };
  if (protocol !== "grpc") return new made({ ...options, headers });
  const metadata = new grpc.Metadata();
  Object.entries(headers).forEach(([name, value]) => metadata.set(name, value));
  return new made({ ...options, metadata, credentials: grpc.credentials.createInsecure() });
}

// Prints the items of each export once it has been acknowledged.
function acknowledging(signal, inner, lines) {
  const send = inner.export.bind(inner);
  inner.export = (items, done) =>
    send(items, (result) => {
      if (result.code === 0) {
        lines(items).forEach((line) => console.log(line));
      } else {
        failed = true;
        console.log(`refused ${signal} ${result.error?.code ?? ""} ${result.error?.message ?? ""}`);
      }
      done(result);
    });
  return inner;
}

function points(metrics) {
  const all = metrics.scopeMetrics.flatMap((scope) => scope.metrics).flatMap((metric) => metric.dataPoints);
  return all.map((point) => `point ${point.attributes["test.id"]}`);
}

async function main() {
  const resource = resourceFromAttributes({ "service.name": service });

  const spans = acknowledging("traces", exporter("trace", "OTLPTraceExporter", "/v1/traces"), (items) =>
    items.map((span) => `span ${span.spanContext().traceId} ${span.spanContext().spanId}`),
  );
  const tracing = new NodeTracerProvider({
    resource,
    spanProcessors: [new BatchSpanProcessor(spans, { maxQueueSize: count + 1 })],
  });
  const tracer = tracing.getTracer("integration");
  for (let number = 0; number < count; number++) {
    tracer.startSpan(`span-${number}`, { attributes: { "test.id": `${service}-${number}` } }).end();
  }

  const metrics = acknowledging("metrics", exporter("metrics", "OTLPMetricExporter", "/v1/metrics"), points);
  const reader = new PeriodicExportingMetricReader({ exporter: metrics, exportIntervalMillis: 3_600_000 });
  const meters = new MeterProvider({ resource, readers: [reader] });
  const counter = meters.getMeter("integration").createCounter("test.count");
  for (let number = 0; number < count; number++) counter.add(1, { "test.id": `${service}-${number}` });

  const logs = acknowledging("logs", exporter("logs", "OTLPLogExporter", "/v1/logs"), (items) =>
    items.map((record) => `log ${record.attributes["test.id"]}`),
  );
  const logging = new LoggerProvider({
    resource,
    processors: [new BatchLogRecordProcessor({ exporter: logs, maxQueueSize: count + 1 })],
  });
  const logger = logging.getLogger("integration");
  for (let number = 0; number < count; number++) {
    const attributes = { "test.id": `${service}-${number}` };
    logger.emit({ severityNumber: SeverityNumber.INFO, body: `record ${number}`, attributes });
  }

  for (const provider of [tracing, meters, logging]) {
    // What was refused has been told; that shutting down fails because of it says nothing new.
    await provider.forceFlush().catch(() => {});
  }
  for (const provider of [tracing, logging]) await provider.shutdown().catch(() => {});
  process.exit(failed ? 1 : 0);
}

main();
