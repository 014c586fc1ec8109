//! OTLP servers, gRPC and HTTP, over streams that they are given.
