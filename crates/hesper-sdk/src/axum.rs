//! `axum::serve(listener, app)` on a bound service (feature `axum`).

use crate::Listener;
use hesper_overlay::stream::Stream;
use std::io;

/// The address of a peer is the dialer's identity id, that of the listener its service's name.
///
/// axum has no word for the end of a listener: when the context is shut down, `accept` waits for ever.
impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = String;

    async fn accept(&mut self) -> (Stream, String) {
        loop {
            let Ok(incoming) = Listener::accept(self).await else {
                return std::future::pending().await;
            };
            let dialer = incoming.dialer_id().to_owned();
            match incoming.into_stream().await {
                Ok(stream) => return (stream, dialer),
                Err(error) => tracing::debug!(%error, dialer, "the dialer went away"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.service().to_owned())
    }
}
