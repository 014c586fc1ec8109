//! Settings that many components share.

mod auth;
mod grpc;
mod headers;
mod http;
mod listen;
mod pattern;
mod queue;
mod retry;
mod tls;
mod value;

pub use auth::Auth;
pub use grpc::{Compression, GrpcClient, GrpcServer, KeepaliveClient, KeepaliveServer};
pub use headers::Headers;
pub use http::{Cors, HttpClient, HttpServer};
pub use pattern::Pattern;
pub use queue::{Partition, QueueBatch, SendingQueue, Sizer};
pub use retry::Retry;
pub use tls::{ClientTls, ServerTls, TlsIdentity, TlsVersion};
pub use value::Value;

pub(crate) use grpc::{client as grpc_client, server as grpc_server};
pub(crate) use headers::{check as check_header, check_url};
pub(crate) use http::{client as http_client, client_url, is_plaintext, proxy, server as http_server};
pub(crate) use pattern::{anchored, pattern};
pub(crate) use queue::{bounded_by_log, queue};
pub(crate) use retry::retry;
pub(crate) use value::value;
