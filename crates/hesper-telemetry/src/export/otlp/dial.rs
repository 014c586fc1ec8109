//! Streams to one destination, with TLS on top where it is spoken.

use crate::net::{BoxIo, Connector, tls::ClientTlsLayer};
use hesper_collector_config::{Address, Endpoint};
use std::{io, net::SocketAddr, sync::Arc};

/// How a destination is reached.
pub(crate) struct Dial {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) endpoint: Endpoint,
    /// TLS and the name that the server must have.
    pub(crate) tls: Option<(ClientTlsLayer, String)>,
}

impl Dial {
    /// Opens a stream, to one address of the destination if one is named.
    pub(crate) async fn open(&self, at: Option<SocketAddr>) -> io::Result<BoxIo> {
        let io = match at {
            Some(at) => {
                let address = Endpoint::Underlay(Address::new(&at.ip().to_string(), at.port()));
                self.connector.connect(&address).await?
            }
            None => self.connector.connect(&self.endpoint).await?,
        };
        match &self.tls {
            Some((layer, name)) => layer.wrap(io, name).await,
            None => Ok(io),
        }
    }
}
