//! Exporters against real servers of others, and against odd ones.

mod files;
mod grpc;
mod http;
mod remote_write;
mod support;
