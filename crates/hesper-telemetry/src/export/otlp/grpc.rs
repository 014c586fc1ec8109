//! OTLP over gRPC.

use super::{
    BuildError, Hop,
    answer::Answer,
    compress::{Compressor, Snappy},
    dial::Dial,
    frame,
    link::Sender,
    pieces::{Carrier, Limit, Piece, deliver},
    pool::Pool,
    request::{Party, USER_AGENT, add_headers, authority},
};
use crate::{
    auth::ClientAuth,
    export::{Exporter, Failure, Shipment},
    net::{
        Connector,
        tls::{ClientTlsLayer, H2},
    },
};
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::{Endpoint, GrpcClient, exporters::OtlpExporter};
use hesper_otlp::{PartialSuccess, Signal};
use http::{HeaderMap, HeaderValue, Request, Uri, Version, header, uri::Authority};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// When the settings have no limit: a call that takes longer is lost.
const LONGEST: Duration = Duration::from_secs(3600);

/// Sends by unary calls of gRPC, many at once on one connection for each address of the destination.
pub struct Grpc {
    party: Party,
    pool: Pool,
    /// Of each signal, in the order of [`Signal::ALL`].
    uris: [Uri; 4],
    headers: HeaderMap,
    compressor: Compressor,
    limit: Limit,
    timeout: Duration,
    wait_for_ready: bool,
}

impl Grpc {
    /// One of these settings. `name` is the id of the exporter, for messages; `connector` opens the streams.
    ///
    /// # Errors
    /// Credentials that need secrecy and a destination that gives none; TLS files that cannot be read.
    pub fn new(
        name: &str,
        settings: &OtlpExporter,
        connector: Arc<dyn Connector>,
        auth: Option<Arc<dyn ClientAuth>>,
        hop: Hop,
    ) -> Result<Arc<Self>, BuildError> {
        let client = &settings.client;
        let party = Party::new(name, &client.endpoint, client.speaks_tls(), auth, hop)?;
        let compressor = Compressor::new(client.compression, None, Snappy::Framed);
        let timeout = Some(settings.timeout).filter(|time| !time.is_zero());
        let headers = headers(name, client, &compressor, timeout)?;
        let pool = Pool::new(dial(name, client, connector)?, client);
        Ok(Arc::new(Self {
            party,
            pool,
            uris: uris(name, client)?,
            headers,
            compressor,
            limit: Limit::default(),
            timeout: timeout.unwrap_or(LONGEST),
            wait_for_ready: client.wait_for_ready,
        }))
    }

    async fn call(&self, piece: &Piece<'_>) -> Answer {
        let mut headers = self.headers.clone();
        if let Err(reason) = self.party.sign(&mut headers, piece).await {
            return Answer::again(reason);
        }
        let message = match self.compressor.compress(&piece.payload).await {
            Ok(message) => message,
            Err(error) => return Answer::never(format!("{}: not compressed: {error}", self.party.to)),
        };
        let compressed = self.compressor.name().is_some();
        let request = || {
            let mut request = Request::new(frame::body(message.clone(), compressed));
            *request.method_mut() = http::Method::POST;
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = self.uris[piece.signal as usize].clone();
            request.headers_mut().clone_from(&headers);
            request
        };
        let mut first = true;
        loop {
            let link = self.pool.next().await;
            let sender = match link.sender(self.wait_for_ready).await {
                Ok(sender) => sender,
                Err(reason) => return Answer::again(format!("{}: {reason}", self.party.to)),
            };
            match self.exchange(sender, request(), piece).await {
                Ok(answer) => return answer,
                // The connection ended before the request was on its way: a new one, once.
                Err(error) if first && untouched(&error) => {
                    link.forget();
                    first = false;
                }
                Err(error) => {
                    let reason = super::chain(&error);
                    return Answer::again(format!("{} gave no answer: {reason}", self.party.to));
                }
            }
        }
    }

    async fn exchange(
        &self,
        mut sender: Sender,
        request: Request<frame::Body>,
        piece: &Piece<'_>,
    ) -> hyper::Result<Answer> {
        let response = sender.send_request(request).await?;
        Ok(frame::read(response, piece.signal, piece.payload.len(), &self.party.to).await)
    }
}

impl Carrier for Grpc {
    fn carry<'a>(&'a self, piece: &'a Piece<'a>) -> BoxFuture<'a, Answer> {
        async move {
            timeout(self.timeout, self.call(piece)).await.unwrap_or_else(|_| {
                Answer::again(format!("{} gave no answer in {:?}", self.party.to, self.timeout))
            })
        }
        .boxed()
    }

    fn to(&self) -> &str {
        &self.party.to
    }
}

impl Exporter for Grpc {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        deliver(self, &self.limit, shipment).boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async { self.pool.close() }.boxed()
    }
}

/// Did the peer certainly do nothing with the request?
fn untouched(error: &hyper::Error) -> bool {
    use std::error::Error;
    let reason = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    // After GOAWAY hyper gives this error to the requests that the peer has not looked at.
    error.is_canceled()
        || reason.is_some_and(|error| {
            error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
        })
}

fn dial(name: &str, client: &GrpcClient, connector: Arc<dyn Connector>) -> Result<Dial, BuildError> {
    let host = client.endpoint.underlay().map(|address| match &*address.host {
        "" => "localhost".to_owned(),
        host => host.to_owned(),
    });
    let tls = match host.filter(|_| client.speaks_tls()) {
        Some(host) => {
            let layer = ClientTlsLayer::new(&client.tls, &[H2]);
            Some((layer.map_err(|error| BuildError(format!("exporter '{name}': {error}")))?, host))
        }
        None => None,
    };
    Ok(Dial { connector, endpoint: client.endpoint.clone(), tls })
}

fn uris(name: &str, client: &GrpcClient) -> Result<[Uri; 4], BuildError> {
    let own = client.authority.as_deref().or(client.tls.server_name_override.as_deref());
    let authority = match own.filter(|own| !own.is_empty()) {
        Some(own) => Authority::try_from(own)
            .map_err(|error| BuildError(format!("exporter '{name}': authority '{own}' is none: {error}")))?,
        None => authority(&client.endpoint, name)?,
    };
    let secure = client.speaks_tls() || matches!(client.endpoint, Endpoint::Mesh { .. });
    let scheme = if secure { "https" } else { "http" };
    let uri = |signal: Signal| {
        let parts = Uri::builder().scheme(scheme).authority(authority.clone());
        parts.path_and_query(signal.grpc_path()).build()
    };
    let [traces, metrics, logs, profiles] = Signal::ALL.map(uri);
    let refused = |error| BuildError(format!("exporter '{name}': no URL for its calls: {error}"));
    Ok([
        traces.map_err(refused)?,
        metrics.map_err(refused)?,
        logs.map_err(refused)?,
        profiles.map_err(refused)?,
    ])
}

fn headers(
    name: &str,
    client: &GrpcClient,
    compressor: &Compressor,
    timeout: Option<Duration>,
) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    add_headers(&mut headers, &client.headers, true, name)?;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip"));
    if let Some(encoding) = compressor.name() {
        headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
    }
    if let Some(timeout) = timeout {
        let value = HeaderValue::from_str(&grpc_timeout(timeout));
        headers.insert("grpc-timeout", value.map_err(|error| BuildError(error.to_string()))?);
    }
    Ok(headers)
}

/// A timeout as gRPC writes it: at most eight digits and a unit.
fn grpc_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    match timeout.as_micros() {
        micros @ 0..=MOST => format!("{micros}u"),
        _ if timeout.as_millis() <= MOST => format!("{}m", timeout.as_millis()),
        _ => format!("{}S", u128::from(timeout.as_secs()).min(MOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_eight_digits_at_most() {
        let text = |millis| grpc_timeout(Duration::from_millis(millis));
        assert_eq!(text(5000), "5000000u");
        assert_eq!(text(200_000), "200000m");
        assert_eq!(text(200_000_000), "200000S");
        assert_eq!(grpc_timeout(Duration::MAX), "99999999S");
    }
}
