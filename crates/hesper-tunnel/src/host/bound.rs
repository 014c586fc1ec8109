//! One bound service: accepts its streams and connects them.

use super::connect::{ConnectError, Connected, connect};
use crate::{
    Metrics,
    app_data::AppData,
    metrics::Held,
    plan::{Binding, BindingKey},
    target,
};
use hesper_model::entity::Precedence;
use hesper_sdk::{BindError, BindOptions, Context, Incoming, Listener};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

/// Streams of one service connected at once; more are refused.
const MAX_STREAMS: usize = 16_384;
/// Between attempts to bind: doubled from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Binds and serves until the sender of `binding` is dropped (then unbinds) or the context is shut down. Streams that are open go on.
pub(super) async fn serve(
    ctx: Context,
    key: BindingKey,
    mut binding: watch::Receiver<Binding>,
    metrics: Metrics,
    ends: CancellationToken,
) {
    let Some(mut listener) = bind(&ctx, &key, &mut binding).await else { return };
    let _bound = Held::new(&metrics.bound);
    tracing::info!(service = %key.service, instance = %key.instance, to = %binding.borrow().address(), "hosting");
    let streams = Arc::new(Semaphore::new(MAX_STREAMS));
    loop {
        tokio::select! {
            incoming = listener.accept() => match incoming {
                Ok(incoming) => {
                    let permit = Arc::clone(&streams).try_acquire_owned().ok();
                    let serve = stream(incoming, binding.borrow().clone(), metrics.clone(), permit);
                    let ends = ends.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = serve => {}
                            () = ends.cancelled() => {}
                        }
                    });
                }
                Err(closed) => {
                    tracing::debug!(service = %key.service, %closed, "no longer hosting");
                    return;
                }
            },
            changed = binding.changed() => match changed {
                Ok(()) => update(&listener, &key, &mut binding).await,
                Err(_) => {
                    tracing::info!(service = %key.service, instance = %key.instance, "no longer hosting");
                    return listener.close().await;
                }
            },
        }
    }
}

/// Binds, again and again, until it succeeds (none = no longer wanted, or the context is gone).
async fn bind(ctx: &Context, key: &BindingKey, binding: &mut watch::Receiver<Binding>) -> Option<Listener> {
    let mut pause = RETRY.0;
    loop {
        let options = options(key, &binding.borrow_and_update());
        match ctx.bind_with(&key.service, options).await {
            Ok(listener) => return Some(listener),
            Err(BindError::Shutdown) => return None,
            Err(error) => {
                tracing::warn!(service = %key.service, instance = %key.instance, reason = %error, "cannot bind, trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
            changed = binding.changed() => if changed.is_err() { return None },
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

async fn update(listener: &Listener, key: &BindingKey, binding: &mut watch::Receiver<Binding>) {
    let (cost, precedence) = {
        let now = binding.borrow_and_update();
        tracing::info!(service = %key.service, instance = %key.instance, to = %now.address(), "hosting changed");
        (now.cost, now.precedence.map(sdk_precedence))
    };
    if let Err(error) = listener.update(cost, precedence).await {
        tracing::warn!(service = %key.service, reason = %error, "cost and precedence could not be changed");
    }
}

const fn sdk_precedence(precedence: Precedence) -> hesper_sdk::Precedence {
    match precedence {
        Precedence::Required => hesper_sdk::Precedence::Required,
        Precedence::Default => hesper_sdk::Precedence::Default,
        Precedence::Failed => hesper_sdk::Precedence::Failed,
    }
}

/// One stream: connect, accept, copy; or refuse with the reason.
async fn stream(
    incoming: Incoming,
    binding: Binding,
    metrics: Metrics,
    permit: Option<OwnedSemaphorePermit>,
) {
    let service = incoming.service().to_owned();
    let dialer = incoming.dialer_id().to_owned();
    let _held = Held::new(&metrics.hosted_open);
    let connected = match permit {
        Some(_) => first_that_connects(&binding, incoming.app_data()).await,
        None => Err(("busy", format!("service '{service}' has {MAX_STREAMS} streams already"))),
    };
    match connected {
        Ok(connected) => {
            metrics.hosted(&service, "ok");
            match copy(incoming, connected).await {
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
async fn first_that_connects(binding: &Binding, app_data: &str) -> Result<Connected, (&'static str, String)> {
    let asked = AppData::parse(app_data)
        .map_err(|error| ("refused", format!("the dialer's connection data cannot be read: {error}")))?;
    let mut failure = None;
    for config in &binding.targets {
        match target::target(config, &asked) {
            Ok(target) => match connect(&target).await {
                Ok(connected) => return Ok(connected),
                Err(error) => failure = Some(("target", ConnectError::explain(&error))),
            },
            Err(refusal) => failure = failure.or(Some(("refused", refusal.to_string()))),
        }
    }
    Err(failure.unwrap_or_else(|| ("refused", "the service has no target".to_owned())))
}

async fn copy(incoming: Incoming, connected: Connected) -> std::io::Result<()> {
    let mut stream = incoming.into_stream().await?;
    if !connected.head.is_empty() {
        stream.write_all(&connected.head).await?;
    }
    stream.splice_tcp(connected.tcp).await.map(drop)
}
