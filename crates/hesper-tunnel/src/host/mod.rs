//! Hosting: binds what the view says, and connects each stream to its target.

mod bound;
mod connect;
mod datagrams;

pub use connect::ConnectError;

use crate::{
    Metrics,
    plan::{self, BindEffect, Binding, BindingKey},
    proxy::Said,
};
use bound::Ended;
use hesper_sdk::Context;
use std::collections::BTreeMap;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// One bind at work.
struct Slot {
    binding: watch::Sender<Binding>,
    /// Resolves when the bind has ended.
    ended: oneshot::Receiver<()>,
}

/// Binds every service that this identity may bind and that has a `host.v1` or `host.v2` config, and follows every change, until
/// dropped or the context is shut down. Streams end with it.
pub async fn run(ctx: Context, metrics: Metrics) {
    let ends = CancellationToken::new();
    let _ends = ends.clone().drop_guard();
    let mut state = ctx.state();
    let mut running: BTreeMap<BindingKey, Binding> = BTreeMap::new();
    let mut slots: BTreeMap<BindingKey, Slot> = BTreeMap::new();
    let mut ending: BTreeMap<BindingKey, oneshot::Receiver<()>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut said = Said::default();
    loop {
        let view = state.borrow_and_update().clone();
        // Nothing heard yet is not the same as nothing to host.
        if view.revision > 0 {
            let (wanted, skipped) = plan::bindings(&view);
            said.warn("this service is not hosted", &skipped);
            for effect in plan::bind_effects(&running, &wanted) {
                match effect {
                    BindEffect::Unbind(key) => {
                        if let Some(slot) = slots.remove(&key) {
                            ending.insert(key, slot.ended);
                        }
                    }
                    BindEffect::Update(key, binding) => {
                        if let Some(slot) = slots.get(&key) {
                            slot.binding.send_replace(binding);
                        }
                    }
                    BindEffect::Bind(key, binding) => {
                        // The controller keeps one terminator for a key: the old bind must not remove the new one's.
                        let before = ending.remove(&key);
                        let (sender, receiver) = watch::channel(binding);
                        let (over, ended) = oneshot::channel();
                        slots.insert(key.clone(), Slot { binding: sender, ended });
                        let serve = bound::serve(ctx.clone(), key, receiver, metrics.clone(), ends.clone());
                        tasks.spawn(async move {
                            if let Some(before) = before {
                                let _ = before.await;
                            }
                            let _over = over;
                            serve.await
                        });
                    }
                }
            }
            running = wanted;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ended::Unbound) => {}
                Ok(Ended::Shutdown) => return,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }
}
