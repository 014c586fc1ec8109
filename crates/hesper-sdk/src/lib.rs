//! Dial and bind overlay services from a Rust program.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hesper_sdk::Context;
//! use std::time::Duration;
//!
//! let ctx = Context::from_identity_file("node.json".as_ref())?;
//! ctx.ready(Duration::from_secs(10)).await?;
//! let stream = ctx.dial("metrics").await?; // AsyncRead + AsyncWrite
//! let mut listener = ctx.bind("echo").await?; // nothing listens on the underlay
//! let incoming = listener.accept().await?;
//! let stream = incoming.into_stream().await?;
//! # Ok(()) }
//! ```
//! A [`Context`] works in the background for as long as it lives: it follows the controller, attaches to every router it is given, renews
//! certificates and grants, and comes back by itself after any outage. A dial without an instance may reach any terminator of the
//! service; `instance@service` reaches only those bound with that instance, which is the name of the binding identity unless it chose
//! another. UDP services carry datagrams: [`Context::dial_datagrams`], [`Incoming::into_datagrams`]. With the feature `axum` a [`Listener`] is also one of
//! `axum::serve`; with `metrics` a node shows what it does as Prometheus metrics ([`Observer`] is what they are made of).

#[cfg(feature = "axum")]
mod axum;
mod context;
mod control;
mod dial;
mod error;
mod grants;
mod idle;
mod inner;
mod listener;
#[cfg(feature = "metrics")]
pub mod metrics;
mod observe;
mod options;
mod renew;
mod status;
mod trace;
mod view;

pub use context::{Context, TcpDialed};
pub use error::{BindError, ContextError, DialError, DialErrorKind, ListenerClosed, NotReady};
pub use hesper_model::config::{Protocol, otlp::SenderTerms};
pub use hesper_overlay::{
    datagram::{DatagramFlow, Sent},
    node::AttachState as RouterState,
    splice::Copied,
    stream::{RecvHalf, SendHalf, Stream, StreamError},
};
pub use hesper_proto::control::{Service, ServiceHost};
pub use hesper_trace::TraceContext;
pub use listener::{Incoming, Listener, Terms, Updater};
pub use observe::{DialStep, Observer};
pub use options::{BindOptions, BindUpdate, ContextOptions, DialOptions, Precedence};
pub use view::NodeView;
