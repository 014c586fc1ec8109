//! Where something listens: a port, a Unix socket, or a service of the mesh; the same for receivers, health and metrics.

use crate::mesh::MeshIncoming;
use hesper_collector_config::{Endpoint, ServerTls};
use hesper_sdk::Context;
use hesper_telemetry::net::{self, BoxIo, Incoming};
use std::{io, time::Duration};
use tokio::time::timeout;

/// How long a stream may take to get ready before the next one is served.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Streams, and what people call the place that they come in at.
pub(crate) struct Listening {
    pub(crate) incoming: Box<dyn Incoming>,
    pub(crate) address: String,
}

/// Listens.
///
/// # Errors
/// It cannot be listened there; the text says why.
pub(crate) async fn listen(
    endpoint: &Endpoint,
    tls: Option<&ServerTls>,
    ctx: Option<&Context>,
) -> io::Result<Listening> {
    match endpoint {
        Endpoint::Mesh { service, instance, .. } => {
            let ctx = ctx.ok_or_else(|| {
                io::Error::other(format!("hesper://{service} is in the mesh: give an identity with -i FILE"))
            })?;
            let incoming = Box::new(MeshIncoming::bind(ctx, service, instance.as_deref()).await?);
            let instance = instance.as_ref().map(|instance| format!("{instance}@")).unwrap_or_default();
            Ok(Listening { incoming, address: format!("hesper://{instance}{service}") })
        }
        Endpoint::Underlay(address) => {
            let net::Listener { incoming, addresses } = net::listen(address, tls).await?;
            let told = addresses.first().map_or_else(|| address.to_string(), ToString::to_string);
            Ok(Listening { incoming, address: told })
        }
    }
}

/// Streams for axum.
pub(crate) struct Served(pub(crate) Listening);

impl axum::serve::Listener for Served {
    type Io = BoxIo;
    type Addr = String;

    async fn accept(&mut self) -> (BoxIo, String) {
        loop {
            let Some(arrival) = self.0.incoming.next().await else {
                // There will be none any more; whoever serves is ended from outside.
                std::future::pending::<()>().await;
                continue;
            };
            match timeout(HANDSHAKE, arrival.ready).await {
                Ok(Ok((stream, _))) => return (stream, arrival.from),
                Ok(Err(error)) => tracing::debug!(from = arrival.from, %error, "a stream did not get ready"),
                Err(_) => tracing::debug!(from = arrival.from, "a stream did not get ready in time"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.0.address.clone())
    }
}
