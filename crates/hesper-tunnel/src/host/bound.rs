//! One bound service: accepts its streams and connects them.

use super::{
    connect::{ConnectError, Connected, connect, connect_udp},
    datagrams,
};
use crate::{
    Metrics,
    app_data::AppData,
    health::{Checks, state},
    metrics::{Held, Side},
    plan::{Binding, BindingKey, needs_rebind},
    target::{self, Target},
    udp,
};
use hesper_model::{config::Protocol, entity::Precedence};
use hesper_sdk::{BindError, BindOptions, BindUpdate, Context, Incoming, Listener, Updater};
use hesper_trace::TraceContext;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::UdpSocket,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// Streams of one service connected at once; more are refused.
const MAX_STREAMS: usize = 16_384;
/// Between attempts to bind: doubled from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Why a bind ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is no longer wanted.
    Unbound,
    /// The context was shut down.
    Shutdown,
}

/// Binds and serves until the sender of `binding` is dropped (then unbinds) or the context is shut down. Streams that are open go on.
pub(super) async fn serve(
    ctx: Context,
    key: BindingKey,
    mut binding: watch::Receiver<Binding>,
    metrics: Metrics,
    ends: CancellationToken,
) -> Ended {
    let streams = Arc::new(Semaphore::new(MAX_STREAMS));
    loop {
        let (listener, bound) = match bind(&ctx, &key, &mut binding).await {
            Ok(bound) => bound,
            Err(ended) => return ended,
        };
        let _held = Held::new(&metrics.bound);
        tracing::info!(service = %key.service, instance = %key.instance, to = %bound.address(), "hosting");
        let accept = Accept { key: &key, streams: &streams, metrics: &metrics, ends: &ends };
        if let Some(ended) = accept.until_rebind(listener, bound, &mut binding).await {
            return ended;
        }
    }
}

/// What accepting needs besides the listener.
struct Accept<'a> {
    key: &'a BindingKey,
    streams: &'a Arc<Semaphore>,
    metrics: &'a Metrics,
    ends: &'a CancellationToken,
}

impl Accept<'_> {
    /// Accepts and follows changes; none = bind anew.
    async fn until_rebind(
        &self,
        mut listener: Listener,
        mut configured: Binding,
        binding: &mut watch::Receiver<Binding>,
    ) -> Option<Ended> {
        let key = self.key;
        let bound = terms(&listener);
        let mut checks = Checks::start(&key.service, configured.clone(), bound, self.metrics.clone());
        // Shared with every stream.
        let mut now = Arc::new(checks.binding());
        let told = Told::start(&listener, key, Binding::clone(&now));
        loop {
            tokio::select! {
                incoming = listener.accept() => match incoming {
                    Ok(incoming) => self.spawn(incoming, now.clone()),
                    // Only a shut down context closes it; binding again finds out.
                    Err(_) => return None,
                },
                changed = binding.changed() => {
                    if changed.is_err() {
                        tracing::info!(service = %key.service, instance = %key.instance, "no longer hosting");
                        listener.close().await;
                        return Some(Ended::Unbound);
                    }
                    let wanted = binding.borrow_and_update().clone();
                    tracing::info!(service = %key.service, instance = %key.instance, to = %wanted.address(), "hosting changed");
                    checks.rebase(wanted.clone(), bound);
                    let change = checks.binding();
                    if needs_rebind(&configured, &wanted) || needs_rebind(&now, &change) {
                        listener.close().await;
                        return None;
                    }
                    (configured, now) = (wanted, Arc::new(change));
                    told.tell(&now);
                }
                () = checks.changed() => {
                    now = Arc::new(checks.binding());
                    told.tell(&now);
                }
            }
        }
    }

    fn spawn(&self, incoming: Incoming, binding: Arc<Binding>) {
        let permit = Arc::clone(self.streams).try_acquire_owned().ok();
        let serve = stream(incoming, binding, self.metrics.clone(), permit);
        let ends = self.ends.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = serve => {}
                () = ends.cancelled() => {}
            }
        });
    }
}

/// Binds, again and again, until it succeeds, is no longer wanted, or the context is shut down.
async fn bind(
    ctx: &Context,
    key: &BindingKey,
    binding: &mut watch::Receiver<Binding>,
) -> Result<(Listener, Binding), Ended> {
    let mut pause = RETRY.0;
    loop {
        let wanted = binding.borrow_and_update().clone();
        let attempt = async {
            match ctx.bind_with(&key.service, options(key, &wanted)).await {
                Err(BindError::Shutdown) => Some(Err(Ended::Shutdown)),
                Ok(listener) => Some(Ok(listener)),
                Err(error) => {
                    tracing::warn!(service = %key.service, instance = %key.instance, reason = %error, "cannot bind, trying again");
                    tokio::time::sleep(pause).await;
                    None
                }
            }
        };
        tokio::select! {
            done = attempt => match done {
                Some(result) => return result.map(|listener| (listener, wanted)),
                None => pause = (pause * 2).min(RETRY.1),
            },
            changed = binding.changed() => if changed.is_err() { return Err(Ended::Unbound) },
        }
    }
}

fn options(key: &BindingKey, binding: &Binding) -> BindOptions {
    BindOptions {
        instance: Some(key.instance.clone()).filter(|i| !i.is_empty()),
        cost: binding.cost,
        precedence: binding.precedence.map(sdk_precedence),
        address: binding.address(),
    }
}

/// What the controller has for a bind that was just made.
fn terms(listener: &Listener) -> state::Terms {
    let terms = listener.terms();
    let precedence = match terms.map(|t| t.precedence) {
        Some(hesper_sdk::Precedence::Required) => Precedence::Required,
        Some(hesper_sdk::Precedence::Failed) => Precedence::Failed,
        Some(hesper_sdk::Precedence::Default) | None => Precedence::Default,
    };
    state::Terms { precedence, cost: terms.map_or(0, |t| t.cost) }
}

/// Tells the controller of changes, the latest only, in the background: meanwhile dials are accepted.
struct Told(watch::Sender<Binding>);

impl Told {
    fn start(listener: &Listener, key: &BindingKey, now: Binding) -> Self {
        let (sender, wanted) = watch::channel(now);
        tokio::spawn(keep_told(listener.updater(), key.service.clone(), wanted));
        Self(sender)
    }

    fn tell(&self, wanted: &Binding) {
        self.0.send_replace(wanted.clone());
    }
}

async fn keep_told(updater: Updater, service: String, mut wanted: watch::Receiver<Binding>) {
    let of = |binding: &Binding| (binding.cost, binding.precedence, binding.address());
    let mut told = of(&wanted.borrow_and_update());
    let mut pause = RETRY.0;
    while wanted.changed().await.is_ok() {
        loop {
            let now = of(&wanted.borrow_and_update());
            if now == told {
                break;
            }
            let (cost, precedence, address) = now.clone();
            let precedence = precedence.map(sdk_precedence);
            match updater.update(BindUpdate { cost, precedence, address: Some(address) }).await {
                Ok(()) => (told, pause) = (now, RETRY.0),
                Err(BindError::Shutdown) => return,
                Err(error) => {
                    tracing::warn!(%service, reason = %error, "cost, precedence and address are not changed yet");
                    // Whatever comes next, the newest word counts.
                    if let Ok(Err(_)) = tokio::time::timeout(pause, wanted.changed()).await {
                        return;
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }
}

const fn sdk_precedence(precedence: Precedence) -> hesper_sdk::Precedence {
    match precedence {
        Precedence::Required => hesper_sdk::Precedence::Required,
        Precedence::Default => hesper_sdk::Precedence::Default,
        Precedence::Failed => hesper_sdk::Precedence::Failed,
    }
}

/// What a stream or a flow of datagrams is connected to.
enum Reached {
    Tcp(Connected),
    Udp(UdpSocket),
}

/// One stream or flow: connect, accept, copy; or refuse with the reason.
async fn stream(
    incoming: Incoming,
    binding: Arc<Binding>,
    metrics: Metrics,
    permit: Option<OwnedSemaphorePermit>,
) {
    let service = incoming.service().to_owned();
    let dialer = incoming.dialer_id().to_owned();
    let _held = Held::new(&metrics.hosted_open);
    let connected = match permit {
        Some(_) => first_that_connects(&binding, &incoming, &metrics).await,
        None => Err(("busy", format!("service '{service}' has {MAX_STREAMS} streams already"))),
    };
    match connected {
        Ok(connected) => {
            metrics.hosted(&service, "ok");
            let copied = match connected {
                Reached::Tcp(connected) => copy(incoming, connected, &metrics).await,
                Reached::Udp(target) => carry(incoming, target, &service, &binding, &metrics).await,
            };
            match copied {
                Ok(()) => tracing::debug!(%service, %dialer, "a stream ended"),
                Err(error) => tracing::debug!(%service, %dialer, %error, "a stream broke"),
            }
        }
        Err((outcome, reason)) => {
            metrics.hosted(&service, outcome);
            tracing::warn!(%service, %dialer, %reason, "a stream was refused");
            incoming.refuse(&reason).await;
        }
    }
}

/// Tries the targets in order; the reason of the last failure, or of the first refusal by config when none was tried.
async fn first_that_connects(
    binding: &Binding,
    incoming: &Incoming,
    metrics: &Metrics,
) -> Result<Reached, (&'static str, String)> {
    let (dialed, trace) = (incoming.protocol(), incoming.trace_context());
    let asked = AppData::parse(incoming.app_data())
        .map_err(|error| ("refused", format!("the dialer's connection data cannot be read: {error}")))?;
    let mut failure = None;
    for config in &binding.targets {
        match target::target(config, &asked, dialed) {
            Ok(target) => match reach(&target, trace.as_ref(), metrics).await {
                Ok(reached) => return Ok(reached),
                Err(error) => failure = Some(("target", ConnectError::explain(&error))),
            },
            Err(refusal) => failure = failure.or(Some(("refused", refusal.to_string()))),
        }
    }
    Err(failure.unwrap_or_else(|| ("refused", "the service has no target".to_owned())))
}

async fn reach(
    target: &Target,
    trace: Option<&TraceContext>,
    metrics: &Metrics,
) -> Result<Reached, ConnectError> {
    let make = || {
        tracing::info_span!(
            "connect",
            otel.kind = "client",
            otel.name = format!("connect {}:{}", target.address, target.port),
            "server.address" = %target.address,
            "server.port" = target.port,
            "network.transport" = %target.protocol,
        )
    };
    // By itself it begins no trace.
    let span = trace.map_or_else(Span::none, |trace| hesper_trace::entry(Some(trace), make));
    let begun = Instant::now();
    let reached = async {
        match target.protocol {
            Protocol::Tcp => connect(target).await.map(Reached::Tcp),
            Protocol::Udp => connect_udp(target).await.map(Reached::Udp),
        }
    };
    let reached = reached.instrument(span.clone()).await;
    metrics.connected(target.protocol, reached.is_ok(), begun.elapsed());
    reached.inspect_err(|error| {
        if !span.is_disabled() {
            hesper_trace::fail(&span, &error.explain());
        }
    })
}

async fn carry(
    incoming: Incoming,
    target: UdpSocket,
    service: &str,
    binding: &Binding,
    metrics: &Metrics,
) -> std::io::Result<()> {
    let flow = incoming.into_datagrams().await?;
    let idle = binding.max_idle.unwrap_or(udp::IDLE);
    let end = datagrams::carry(flow, target, service, idle, metrics).await;
    tracing::debug!(service, end, "a flow ended");
    Ok(())
}

async fn copy(incoming: Incoming, connected: Connected, metrics: &Metrics) -> std::io::Result<()> {
    // Whatever goes wrong from here on, the target must not take it for an end.
    connected.tcp.set_zero_linger()?;
    let stream = incoming.into_stream().await?;
    let copied = stream.splice_tcp_after(connected.head, connected.tcp).await?;
    metrics.copied(Side::Host, copied);
    Ok(())
}
