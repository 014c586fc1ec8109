//! OTLP in and out: everything between a stream that brings telemetry and a stream that takes it away.
//!
//! A batch lives so: a receiver ([`receive`]) reads a request from a stream that it was given ([`net::Incoming`]), knows the
//! sender ([`auth::Authenticator`], [`net::Peer`]), and hands [`flow::Received`] to the [`flow::Sink`] of its pipelines. That holds it against what
//! the sender may send ([`quota`]), stamps it, lets the processors work on it ([`process::Processor`]), and gives it to the queue
//! ([`delivery`]), which answers when it is safe.
//! Behind the queue each destination is served on its own: read, sent by an exporter ([`export::Exporter`]) over a stream
//! that it asks for ([`net::Connector`]), tried again, acknowledged; and every item is accounted for.
//!
//! What travels is bytes ([`hesper_otlp::Batch`]); only a processor that needs messages decodes them ([`process::Work`]). Who sent it
//! ([`origin::Origin`]) is beside the bytes all the way.
//!
//! This crate knows no mesh and no configuration file: streams are given to it, and settings are those of
//! `hesper-collector-config`. Every wait on a peer has a deadline, every queue a bound.

pub mod auth;
pub mod delivery;
pub mod distribution;
pub mod export;
pub mod flow;
pub mod net;
pub mod origin;
pub mod process;
pub mod quota;
pub mod receive;
pub mod scrape;
mod watched;
