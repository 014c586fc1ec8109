//! The OpenTelemetry Collector's YAML, for `hesper collect`: files in, typed settings out, and what to say about them.
//!
//! [`load`] reads several files as one configuration (the later one wins, mappings are merged, lists replaced), replaces
//! `${env:X}`, unwraps the operator's manifest, and gives a [`Config`] with every setting typed and every default filled in:
//!
//! - [`Receiver`], [`Processor`], [`Exporter`], [`Extension`]: what each component of this crate's four folders says. Newer and
//!   older names are one variant.
//! - [`Service`]: the pipelines, in which every name is defined, fits its place and the signal, and the authenticators that
//!   components name are there, running, and of the right kind.
//! - [`Endpoint`]: `hesper://SERVICE` is a service of the mesh; everything else is on the network under it.
//! - [`Secret`]: passwords, tokens, values of headers. `Debug` of a configuration shows none.
//!
//! What cannot be run is a [`Fault`], what runs but probably not as meant a [`Remark`]; both have file, line, column, the reason
//! and the next step, and all of them are told at once. Defaults are the Collector's, except: listeners are on loopback,
//! requests may have 64 MiB, failed deliveries are tried for ever, a variable that is not set is a fault.
//!
//! No I/O and no clock: the texts and the environment are arguments.

mod common;
mod config;
mod crd;
mod credential;
mod endpoint;
mod env;
pub mod exporters;
pub mod extensions;
mod id;
mod load;
pub mod processors;
mod quantity;
mod reader;
pub mod receivers;
mod remark;
mod resolve;
mod secret;
mod section;
mod service;
mod telemetry;
mod tree;

pub use common::{
    Auth, ClientTls, Compression, Cors, GrpcClient, GrpcServer, Headers, HttpClient, HttpServer,
    KeepaliveClient, KeepaliveServer, Partition, Pattern, QueueBatch, Retry, SendingQueue, ServerTls, Sizer,
    TlsIdentity, TlsVersion, Value,
};
pub use config::{Component, Config, Pipeline, PipelineId, Service};
pub use endpoint::{Address, Endpoint};
pub use exporters::Exporter;
pub use extensions::Extension;
pub use hesper_otlp::Signal;
pub use hesper_yaml::{Fault, Place};
pub use id::{Class, Id};
pub use load::load;
pub use processors::Processor;
pub use receivers::Receiver;
pub use remark::{Remark, Topic};
pub use secret::Secret;
pub use telemetry::{LogEncoding, LogLevel, MetricsLevel, OwnLogs, OwnMetrics, Telemetry};
