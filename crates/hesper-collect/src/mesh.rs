//! The mesh as the network of receivers and exporters: bound services bring streams, dialed ones take them.

use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::Endpoint;
use hesper_sdk::{BindError, BindOptions, Context, DialOptions, Listener};
use hesper_telemetry::{
    net::{Arrival, BoxIo, Connector, Incoming, MeshPeer, Peer},
    origin::Sender,
};
use std::{io, sync::Arc, time::Duration};

/// After a bind that failed.
const REBIND: Duration = Duration::from_secs(5);

/// A bound service: nothing listens on the network under the mesh. While no controller answers, it goes on trying to bind.
pub struct MeshIncoming {
    ctx: Context,
    service: String,
    options: BindOptions,
    listener: Option<Listener>,
}

impl MeshIncoming {
    /// Binds a service; with an instance, as that one.
    ///
    /// # Errors
    /// The mesh does not let this identity bind it; the text says why. That nobody can be asked is none: it is bound later.
    pub async fn bind(ctx: &Context, service: &str, instance: Option<&str>) -> io::Result<Self> {
        let options = BindOptions { instance: instance.map(str::to_owned), ..BindOptions::default() };
        let listener = match ctx.bind_with(service, options.clone()).await {
            Ok(listener) => Some(listener),
            Err(error @ BindError::Unavailable { .. }) => {
                tracing::warn!(service, reason = told(&error), "not bound yet; trying on");
                None
            }
            Err(error) => {
                let reason = format!("cannot bind hesper://{service}: {}", told(&error));
                return Err(io::Error::other(reason));
            }
        };
        Ok(Self { ctx: ctx.clone(), service: service.to_owned(), options, listener })
    }

    /// The listener; none when the identity has left the mesh.
    async fn listener(&mut self) -> Option<&mut Listener> {
        while self.listener.is_none() {
            match self.ctx.bind_with(&self.service, self.options.clone()).await {
                Ok(listener) => {
                    tracing::info!(service = self.service, "bound");
                    self.listener = Some(listener);
                }
                Err(BindError::Shutdown) => return None,
                Err(error) => {
                    tracing::warn!(service = self.service, reason = told(&error), "not bound yet; trying on");
                    tokio::time::sleep(REBIND).await;
                }
            }
        }
        self.listener.as_mut()
    }
}

impl Incoming for MeshIncoming {
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>> {
        async {
            let incoming = self.listener().await?.accept().await.ok()?;
            let (id, name) = (incoming.dialer_id().to_owned(), incoming.dialer_name().to_owned());
            let terms = incoming.sender_terms().unwrap_or_default();
            let from = format!("identity {name}");
            let ready = async move {
                let stream = incoming.into_stream().await?;
                let mesh = MeshPeer { sender: Sender { id, name }, terms };
                Ok((Box::new(stream) as BoxIo, Peer { mesh: Some(mesh), ..Peer::default() }))
            };
            Some(Arrival { from, ready: ready.boxed() })
        }
        .boxed()
    }
}

/// Dials services of the mesh; everything else is for the connector of the network under it.
pub struct MeshConnector {
    /// None: no identity was given, and no endpoint is in the mesh.
    ctx: Option<Context>,
    underlay: Arc<dyn Connector>,
}

impl MeshConnector {
    /// Over the mesh as this identity.
    pub fn new(ctx: Option<Context>, underlay: Arc<dyn Connector>) -> Self {
        Self { ctx, underlay }
    }

    async fn dial(&self, service: &str, instance: Option<&str>) -> io::Result<BoxIo> {
        let Some(ctx) = &self.ctx else {
            let reason = format!("hesper://{service} is in the mesh: give an identity with -i FILE");
            return Err(io::Error::new(io::ErrorKind::NotConnected, reason));
        };
        let options = DialOptions { instance: instance.map(str::to_owned), ..DialOptions::default() };
        let stream = ctx
            .dial_with(service, options)
            .await
            .map_err(|error| io::Error::other(format!("cannot dial hesper://{service}: {}", told(&error))))?;
        Ok(Box::new(stream))
    }
}

impl Connector for MeshConnector {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        match endpoint {
            Endpoint::Mesh { service, instance, .. } => self.dial(service, instance.as_deref()).boxed(),
            Endpoint::Underlay(_) => self.underlay.connect(endpoint),
        }
    }
}

/// An error with all its reasons.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    text
}
