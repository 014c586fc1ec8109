//! OTLP servers, gRPC and HTTP, over streams that they are given.
//!
//! A [`Server`] takes streams from a [`net::Incoming`](crate::net::Incoming). Each becomes a connection of HTTP/1 or HTTP/2 (`stream`, `connection`, and
//! `watch`, which says when one has to end), and each request goes to gRPC (`grpc`: `framing`, `metadata`) or HTTP (`http`: `media`, `cors`)
//! by its content type. Both understand the head, and then do the same (`take`): room in the budget of all receivers
//! ([`Admission`]), credentials, who sent it (`origin`), the body (`intake`, `compression`), the check, the sink. What is not taken is
//! answered by a [`Refusal`](hesper_otlp::Refusal) (`reply`), and every request is reported to an [`Observer`].
//!
//! Who has connections of its own, and serves other things on them too, gives single calls of gRPC to [`Server::call`].
//!
//! Requests come from strangers: nothing is read before the caller is known, nothing is kept beyond a limit, nothing
//! waits without a deadline. What hyper does not let us see is not enforced: how often a gRPC client pings (`enforcement_policy`).

mod admission;
mod body;
mod builder;
mod compression;
mod connection;
mod cors;
mod framing;
mod grpc;
mod http;
mod intake;
mod media;
mod metadata;
mod observe;
mod origin;
mod reply;
mod server;
mod service;
mod stream;
mod take;
mod watch;

pub use admission::{Admission, DEFAULT_BUDGET};
pub use body::Answer;
pub use builder::{BuildError, Builder, DEFAULT_BODY_TIME, DEFAULT_DRAIN, DEFAULT_MAX_CONNECTIONS};
pub use observe::{Observer, Outcome, Protocol, Request, TurnedAway};
pub use server::{Ended, Server};
