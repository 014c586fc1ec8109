//! The head of the pipelines: what a receiver hands over is judged, stamped and given to every pipeline of its signal.

use crate::{gate::Gate, provenance, spread::Spread};
use arc_swap::ArcSwap;
use futures::{FutureExt, future::BoxFuture};
use hesper_otlp::{Batch, PartialSuccess, Refusal, stamp};
use hesper_sdk::Context;
use hesper_telemetry::{
    flow::{Received, Sink},
    origin::Origin,
};
use std::sync::Arc;

/// Our identity, if we have one; its name is known once the controller has told it.
#[derive(Clone)]
pub(crate) struct Own(pub(crate) Option<Context>);

impl Own {
    pub(crate) fn name(&self) -> Option<String> {
        let name = self.0.as_ref()?.state().borrow().identity_name.clone();
        Some(name).filter(|name| !name.is_empty())
    }
}

/// The sink of one receiver for one signal.
pub(crate) struct Intake {
    /// The pipelines; exchanged when the configuration is read again.
    pub(crate) spread: ArcSwap<Spread>,
    /// The component that checks credentials of this receiver, if one does.
    pub(crate) authenticator: Option<String>,
    /// Who we are in the mesh.
    pub(crate) own: Own,
    /// Policy.
    pub(crate) gate: Arc<Gate>,
}

impl Intake {
    async fn take(&self, received: Received) -> Result<PartialSuccess, Refusal> {
        self.gate.admit(&received)?;
        let Received { batch, counts, origin, id, peer } = received;
        let settled =
            provenance::settle(origin, &peer, self.authenticator.as_deref(), self.own.name().as_deref());
        let origin = settled.inspect_err(|refusal| {
            if let (Some(mesh), Refusal::Denied(reason)) = (&peer.mesh, refusal) {
                self.gate.tell_loop(mesh, reason);
            }
        })?;
        let batch = stamped(batch, &origin)?;
        let spread = self.spread.load_full();
        spread.accept(batch, counts.items, Arc::new(origin), id).await?;
        Ok(PartialSuccess::default())
    }
}

impl Sink for Intake {
    fn accept(&self, received: Received) -> BoxFuture<'_, Result<PartialSuccess, Refusal>> {
        self.take(received).boxed()
    }
}

fn stamped(batch: Batch, origin: &Origin) -> Result<Batch, Refusal> {
    let payload = stamp::stamp(batch.signal, &batch.payload, &provenance::stamp(origin))
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok(Batch { payload, ..batch })
}
