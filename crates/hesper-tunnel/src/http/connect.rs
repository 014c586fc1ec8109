//! CONNECT: a tunnel to a service. The TLS inside, if any, ends in the target.

use super::{Body, Failure, Shared, client::ClientIo, failure::full, forward};
use crate::{
    Dialer,
    metrics::{Held, Side},
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;

/// Dials, answers 200 and copies both ways in the background.
pub(super) async fn connect<D: Dialer>(
    shared: &Arc<Shared<D>>,
    request: Request<Incoming>,
    client: SocketAddr,
) -> Result<Response<Body>, Failure> {
    let Some(authority) = request.uri().authority().cloned().filter(|a| a.port_u16().is_some()) else {
        return Err(Failure::BadRequest("CONNECT needs host:port".into()));
    };
    let permit = Arc::clone(&shared.tunnels)
        .try_acquire_owned()
        .map_err(|_| Failure::Busy("this proxy carries no more tunnels at once".into()))?;
    let stream = forward::dial(shared, &authority, 443, None, client).await?;
    let held = Held::new(&shared.metrics.proxied_open);
    let (ended, metrics) = (shared.ended.clone(), shared.metrics.clone());
    tokio::spawn(async move {
        let _held = (permit, held);
        let tunnel = async {
            let upgraded = hyper::upgrade::on(request).await.map_err(io::Error::other)?;
            let (tcp, head) = tcp_of(upgraded)?;
            D::splice(stream, tcp, head).await
        };
        tokio::select! {
            result = tunnel => match result {
                Ok(copied) => {
                    metrics.copied(Side::Http, copied);
                    tracing::debug!(%authority, "tunnel ended");
                }
                Err(error) => tracing::debug!(%authority, %error, "tunnel broke"),
            },
            () = ended.cancelled() => {}
        }
    });
    Ok(Response::new(full(Bytes::new())))
}

/// The connection under a request, and what was read from it beyond the request.
fn tcp_of(upgraded: Upgraded) -> io::Result<(TcpStream, Bytes)> {
    let parts = upgraded
        .downcast::<TokioIo<ClientIo>>()
        .map_err(|_| io::Error::other("the connection under the request is no TCP connection"))?;
    Ok((parts.io.into_inner().into_tcp(), parts.read_buf))
}
