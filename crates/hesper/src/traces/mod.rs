//! The process's own spans: what flags, files and variables say about them, and their way out.
//!
//! - [`flags`]: `--trace`, `--trace-exporter`, and the `--tracing-…` flags of roles with the file of `--tracing-config`.
//! - [`begin`] settles them, before the first log line; [`Traces::finish`] sends what is left, before the process ends.
//! - [`also`]: metrics and events, which go the same way if it is wished.
//! - `ship`: batches to the exporter, one after the other. What cannot be sent is dropped and counted; nothing ever waits for it.
//! - [`way`]: exporters that need something which comes later: an identity on the mesh, or a login at the controller.

pub(crate) mod also;
pub(crate) mod flags;
mod ship;
pub(crate) mod way;

use self::{
    flags::{RoleFlags, TraceFlags},
    ship::{Audience, Besides},
};
use crate::cli::flags::UsageError;
use anyhow::{Context as _, Result};
use hesper_observe::logs::More;
use hesper_trace::{
    Spans, TraceContext, Tracer,
    settings::{Block, ExporterUrl, Rate, Reader, Settings, settle},
};
use std::time::Duration;
use tokio::{task::JoinHandle, time::timeout};
use tracing::{Instrument as _, Span, info_span};

/// How long the end of a process waits for its last spans.
const FLUSH: Duration = Duration::from_secs(5);

/// Roles that have no identity on the mesh.
const STRANGERS: [&str; 3] = ["hesper-controller", "hesper-router", "hesper-quickstart"];

/// Who traces.
pub(crate) enum Who<'a> {
    /// A long-lived role, with its name, its flags, and the block of its own configuration.
    Role(&'static str, &'a RoleFlags, Option<Box<Block>>),
    /// A command that ends.
    Command,
}

/// The way out of this process's spans; none when they are not recorded.
pub(crate) struct Traces(Option<Out>);

struct Out {
    spans: Spans,
    shipping: JoinHandle<Result<(), String>>,
    audience: Audience,
    /// It goes out by what the process has at hand: [`way`].
    by_hand: bool,
}

/// What is recorded and where it goes, to be put into the log's subscriber; [`Begun::start`] is for after that.
pub(crate) struct Begun {
    /// For the subscriber.
    pub(crate) layer: Option<More>,
    out: Option<(Spans, Settings, String, Audience)>,
}

/// Settles what to record.
///
/// # Errors
/// Flags, file or variables cannot be honoured; then nothing was begun.
pub(crate) fn begin(who: Who<'_>, flags: &TraceFlags) -> Result<Begun> {
    let none = Begun { layer: None, out: None };
    let (settings, name, audience) = match who {
        Who::Role(name, role, block) => {
            let mut said = role.block();
            let mut reader = Reader::Role;
            if flags.trace {
                said.exporter_url = flags.trace_exporter.clone().or(said.exporter_url);
                said.sampling_rate_per_million = Some(Rate::ALL);
                reader = Reader::Command;
            }
            let block = role.file()?.or(block.map(|block| *block)).unwrap_or_default();
            let settings = read(reader, block, said)?;
            if STRANGERS.contains(&name) {
                can_send(settings.as_ref())?;
            }
            (settings, name, Audience::Log)
        }
        Who::Command => {
            let joins = TraceContext::from_environment().is_some_and(|parent| parent.is_sampled());
            if !flags.trace && !joins {
                return Ok(none);
            }
            let said = Block { exporter_url: flags.trace_exporter.clone(), ..Block::default() };
            (read(Reader::Command, Block::default(), said)?, "hesper", Audience::Person)
        }
    };
    let Some(settings) = settings else { return Ok(none) };
    let name = settings.service_name.clone().unwrap_or_else(|| name.to_owned());
    let tracer = Tracer {
        service_name: name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        resource: settings.resource.clone(),
        rate: settings.rate,
        limits: settings.limits,
    };
    let installed = hesper_trace::install(&tracer).context("this process traces already")?;
    Ok(Begun { layer: Some(installed.layer), out: Some((installed.spans, settings, name, audience)) })
}

fn read(reader: Reader, block: Block, said: Block) -> Result<Option<Settings>> {
    let variable = |name: &str| std::env::var(name).ok();
    settle(reader, block, said, &variable).map_err(|error| UsageError(error.to_string()).into())
}

/// Whether one without an identity can send as it was told.
fn can_send(settings: Option<&Settings>) -> Result<()> {
    let Some(settings) = settings else { return Ok(()) };
    let reason = match &settings.exporter {
        None => "this role has no login: give an exporter with --trace-exporter",
        Some(exporter) if exporter.identity.is_none() && matches!(exporter.url, ExporterUrl::Mesh { .. }) => {
            "this role has no identity on the mesh: give one with --tracing-identity"
        }
        Some(_) => return Ok(()),
    };
    Err(UsageError(reason.to_owned()).into())
}

impl Begun {
    /// Begins to send.
    pub(crate) fn start(self) -> Traces {
        Traces(self.out.map(|(spans, settings, name, audience)| {
            let by_hand = way::is_by_hand(settings.exporter.as_ref());
            way::own(settings.exporter.as_ref(), &name);
            let besides = Besides {
                resource: also::resource(&name, &settings),
                metrics: settings.metrics,
                events: settings.events,
            };
            let way = way::exporter(settings.exporter, name);
            let shipping = ship::ship(spans.clone(), way, audience, besides);
            // Whoever sends spans makes none.
            let shipping = tokio::spawn(hesper_trace::quiet(shipping));
            Out { spans, shipping, audience, by_hand }
        }))
    }
}

impl Traces {
    /// Does the work of a command as the root of its trace, or as a part of the trace that the environment names.
    pub(crate) async fn command<T>(&self, words: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.0.is_none() {
            return work.await;
        }
        let parent = TraceContext::from_environment();
        let span = hesper_trace::entry(parent.as_ref(), || command_span(words));
        let done = work.instrument(span.clone()).await;
        if let Err(error) = &done {
            // The first words only: the rest repeats what was typed.
            hesper_trace::fail(&span, &error);
        }
        hesper_trace::set(&span, "process.exit.code", i64::from(done.is_err()));
        // Connections that were made for it may hold it.
        hesper_trace::end(&span);
        done
    }

    /// Sends what is left, within [`FLUSH`].
    pub(crate) async fn finish(self) {
        let Some(Out { spans, mut shipping, audience, by_hand }) = self.0 else { return };
        spans.close();
        let reason = match way::missing().filter(|_| by_hand) {
            Some(missing) => missing,
            None => match timeout(FLUSH, &mut shipping).await {
                Ok(Ok(Ok(()))) => return,
                Ok(Ok(Err(reason))) => reason,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("the exporter did not take them within {} s", FLUSH.as_secs()),
            },
        };
        shipping.abort();
        audience.lost(spans.counters().ended() - spans.counters().sent(), &reason);
    }
}

fn command_span(words: &str) -> Span {
    info_span!("command", otel.name = words, otel.kind = "internal", "process.command" = words)
}
