//! Hosting: binds what the view says, and connects each stream to its target.

mod bound;
mod connect;

pub use connect::ConnectError;

use crate::{
    Metrics,
    plan::{self, BindEffect, Binding, BindingKey},
    proxy::Said,
};
use hesper_sdk::Context;
use std::collections::BTreeMap;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Binds every service that this identity may bind and that has a `host.v1` or `host.v2` config, and follows every change, until
/// dropped or the context is shut down. Streams end with it.
pub async fn run(ctx: Context, metrics: Metrics) {
    let ends = CancellationToken::new();
    let _ends = ends.clone().drop_guard();
    let mut state = ctx.state();
    let mut running: BTreeMap<BindingKey, Binding> = BTreeMap::new();
    let mut told: BTreeMap<BindingKey, (watch::Sender<Binding>, Id)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut said = Said::default();
    loop {
        let view = state.borrow_and_update().clone();
        let (wanted, skipped) = plan::bindings(&view);
        // Nothing heard yet is not the same as nothing to host.
        if view.revision > 0 {
            said.warn("this service is not hosted", &skipped);
            for effect in plan::bind_effects(&running, &wanted) {
                match effect {
                    BindEffect::Unbind(key) => drop(told.remove(&key)),
                    BindEffect::Update(key, binding) => {
                        if let Some((sender, _)) = told.get(&key) {
                            sender.send_replace(binding);
                        }
                    }
                    BindEffect::Bind(key, binding) => {
                        let (sender, receiver) = watch::channel(binding);
                        let serve =
                            bound::serve(ctx.clone(), key.clone(), receiver, metrics.clone(), ends.clone());
                        let id = tasks.spawn(serve).id();
                        told.insert(key, (sender, id));
                    }
                }
            }
            running = wanted;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.map_or_else(|e| e.id(), |(id, ())| id);
                // A bind that ended by itself is bound again at the next change, unless the context is gone.
                if let Some(key) = told.iter().find(|(_, (_, task))| *task == id).map(|(key, _)| key.clone()) {
                    tracing::warn!(service = %key.service, "a bind ended by itself");
                    told.remove(&key);
                    running.remove(&key);
                }
            }
        }
    }
}
