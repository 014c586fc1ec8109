//! `/metrics` and `/healthz` over HTTP.

use super::{CONTENT_TYPE, Registry, classic, negotiate};
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};

/// Says whether the process can do its work; the error is the reason why not.
pub type Health = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// `GET /metrics` (OpenMetrics text, or the older text for readers that do not ask for it) and `GET /healthz` (200 `ok`, or 503 and the reason), to be merged into a server.
pub fn routes(registry: Registry, health: Health) -> Router {
    let metrics = move |headers: HeaderMap| {
        let registry = registry.clone();
        async move { exposition(&headers, &registry) }
    };
    let healthz = move || {
        let health = health.clone();
        async move {
            match health() {
                Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            }
        }
    };
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz))
}

/// The answer to a scrape with these request headers, for servers that mount `/metrics` themselves.
pub fn exposition(headers: &HeaderMap, registry: &Registry) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let (kind, text) = match negotiate::format(accept) {
        negotiate::Format::OpenMetrics => (CONTENT_TYPE, registry.encode()),
        negotiate::Format::Classic => (classic::CONTENT_TYPE, classic::from_open_metrics(&registry.encode())),
    };
    ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text).into_response()
}

/// Why the metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can be reached from other machines.
    #[error(
        "metrics are served on loopback only, not on {0}: use 127.0.0.1, or hesper://SERVICE to bind them as a service of the mesh"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {0} for metrics")]
    Listen(SocketAddr, #[source] io::Error),
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens: with the port that the system chose if 0 was asked for.
    pub local_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves [`routes`] in the background on `addr`, a loopback address.
///
/// # Errors
/// [`ServeError`]: the address is not loopback or is taken.
pub async fn serve_loopback(
    addr: SocketAddr,
    registry: Registry,
    health: Health,
) -> Result<Serving, ServeError> {
    if !addr.ip().is_loopback() {
        return Err(ServeError::NotLoopback(addr));
    }
    let listen = async {
        let listener = TcpListener::bind(addr).await?;
        Ok((listener.local_addr()?, listener))
    };
    let (local_addr, listener) = listen.await.map_err(|e| ServeError::Listen(addr, e))?;
    let app = routes(registry, health);
    let task = tokio::spawn(async move {
        if let Err(fault) = axum::serve(listener, app).await {
            tracing::error!(%fault, %local_addr, "metrics are no longer served");
        }
    });
    tracing::debug!(%local_addr, "serving metrics");
    Ok(Serving { local_addr, task })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(addr: SocketAddr, path: &str, accept: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(addr).await.expect("connect");
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answer");
        answer
    }

    #[tokio::test]
    async fn metrics_have_the_type_that_scrapers_negotiate_by() {
        let registry = Registry::new();
        registry.counter("dials", "Dials").inc();
        let serving =
            serve_loopback(([127, 0, 0, 1], 0).into(), registry, Arc::new(|| Ok(()))).await.expect("serve");
        let answer = get(serving.local_addr, "/metrics", CONTENT_TYPE).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("content-type: {CONTENT_TYPE}\r\n")), "{answer}");
        assert!(answer.contains("\nhesper_dials_total 1\n") && answer.ends_with("# EOF\n"), "{answer}");
        assert!(answer.contains("process_resident_memory_bytes"), "{answer}");
        let classic = get(serving.local_addr, "/metrics", "*/*").await;
        assert!(classic.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{classic}");
        assert!(
            classic.contains("# TYPE hesper_dials_total counter\n") && !classic.contains("# EOF"),
            "{classic}"
        );
        assert!(get(serving.local_addr, "/healthz", "*/*").await.ends_with("\r\n\r\nok\n"));
    }

    #[tokio::test]
    async fn ill_health_is_503_with_the_reason() {
        let app = routes(Registry::new(), Arc::new(|| Err("the store is closed".into())));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("address");
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let answer = get(addr, "/healthz", "*/*").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("the store is closed\n"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn an_address_for_others_is_refused() {
        let refused = serve_loopback(([0, 0, 0, 0], 0).into(), Registry::new(), Arc::new(|| Ok(()))).await;
        assert!(matches!(refused, Err(ServeError::NotLoopback(_))));
    }
}
