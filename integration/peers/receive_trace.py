"""Receives spans as OTLP, with the official protobuf definitions, and prints them.

usage: receive_trace.py grpc|http

Prints `listening on 127.0.0.1:PORT` once it serves, then one `TRACE_ID SPAN_ID SERVICE_NAME` a line for each span.
"""

import gzip
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


def show(request):
    for resource in request.resource_spans:
        names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                print(span.trace_id.hex(), span.span_id.hex(), *names, flush=True)


class Grpc(TraceServiceServicer):
    def Export(self, request, context):
        show(request)
        return ExportTraceServiceResponse()


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        known = self.path == "/v1/traces"
        if known:
            show(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if known else 404)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main():
    if sys.argv[1] == "grpc":
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        add_TraceServiceServicer_to_server(Grpc(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        print(f"listening on 127.0.0.1:{port}", flush=True)
        server.wait_for_termination()
    else:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Http)
        print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


main()
