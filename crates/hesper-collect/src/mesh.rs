//! The mesh as the network of receivers and exporters: bound services bring streams, dialed ones take them.

use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::Endpoint;
use hesper_sdk::{BindOptions, Context, DialOptions, Listener};
use hesper_telemetry::{
    net::{Arrival, BoxIo, Connector, Incoming, MeshPeer, Peer},
    origin::Sender,
};
use std::{io, sync::Arc};

/// A bound service: nothing listens on the network under the mesh.
pub struct MeshIncoming {
    listener: Listener,
}

impl MeshIncoming {
    /// Binds a service; with an instance, as that one.
    ///
    /// # Errors
    /// The mesh does not let this identity bind it; the text says why.
    pub async fn bind(ctx: &Context, service: &str, instance: Option<&str>) -> io::Result<Self> {
        let options = BindOptions { instance: instance.map(str::to_owned), ..BindOptions::default() };
        let bound = ctx.bind_with(service, options).await;
        let listener = bound
            .map_err(|error| io::Error::other(format!("cannot bind hesper://{service}: {}", told(&error))))?;
        Ok(Self { listener })
    }
}

impl Incoming for MeshIncoming {
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>> {
        async {
            let incoming = self.listener.accept().await.ok()?;
            let sender =
                Sender { id: incoming.dialer_id().to_owned(), name: incoming.dialer_id().to_owned() };
            let peer = MeshPeer { sender: sender.clone(), terms: Arc::default() };
            let ready = async move {
                let stream = incoming.into_stream().await?;
                let peer = Peer { mesh: Some(peer), ..Peer::default() };
                Ok((Box::new(stream) as BoxIo, peer))
            };
            Some(Arrival { from: format!("identity {}", sender.name), ready: ready.boxed() })
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
