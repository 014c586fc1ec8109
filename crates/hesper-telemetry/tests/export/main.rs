//! Exporters against real servers of others, and against odd ones.

mod grpc;
mod http;
mod support;
