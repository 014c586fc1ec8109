//! What time the controller has. Its answers carry it (`Date`, RFC 9110 §6.6.1), so that a clock that is wrong can be told from a
//! certificate or token that is too old.

use crate::connect::{ControllerUrl, connect};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::{fmt, sync::Arc, time::Duration};
use time::{
    OffsetDateTime,
    format_description::well_known::{Rfc2822, Rfc3339},
};
use tokio::time::timeout;

/// Clocks that differ by less are not the reason for anything: `Date` has whole seconds, and answers take time.
const TOLERANCE: Duration = Duration::from_secs(5);
/// Clocks that differ by more get in the way: tokens are accepted half a minute early at most.
const WORRYING: Duration = Duration::from_secs(20);
/// Deadline of the question, after the connection is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Two clocks at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// This machine's.
    pub here: OffsetDateTime,
    /// The controller's.
    pub controller: OffsetDateTime,
}

impl Clocks {
    /// Are they so far apart that it may be the reason for a refusal?
    pub fn differ(&self) -> bool {
        (self.here - self.controller).abs() > TOLERANCE
    }
}

impl fmt::Display for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "check the clock of this machine (it says {}; the controller says {})",
            shown(self.here),
            shown(self.controller)
        )
    }
}

/// A time for people, in whole seconds.
pub fn shown(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_else(|_| whole.to_string())
}

/// Reads an HTTP `Date`.
pub fn parse_date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok()
}

/// What an answer over gRPC says of the time.
pub fn of_answer(metadata: &tonic::metadata::MetadataMap) -> Option<Clocks> {
    let controller = parse_date(metadata.get("date")?.to_str().ok()?)?;
    Some(Clocks { here: OffsetDateTime::now_utc(), controller })
}

/// Says so when the clocks are far apart: certificates and tokens will not be accepted somewhere.
pub fn warn_of_difference(metadata: &tonic::metadata::MetadataMap) {
    if let Some(clocks) = of_answer(metadata).filter(|c| (c.here - c.controller).abs() > WORRYING) {
        tracing::warn!("certificates and tokens may be refused: {clocks}");
    }
}

/// Asks the first controller that answers. `config` is one of those for this purpose (`clock_client`, `pinned_clock_client` of
/// [`hesper_pki::tls`]); nothing secret is sent.
pub async fn ask(urls: &[ControllerUrl], mut config: ClientConfig) -> Option<Clocks> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    for url in urls {
        if let Ok(Some(clocks)) = timeout(ANSWER_TIMEOUT, ask_one(url, config.clone())).await {
            return Some(clocks);
        }
    }
    None
}

async fn ask_one(url: &ControllerUrl, config: Arc<ClientConfig>) -> Option<Clocks> {
    let stream = connect(url, config).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/version").header(header::HOST, url.authority());
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?);
    tokio::pin!(answer);
    // The connection only moves while it is polled. It may end first, with the answer already there.
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    let date = answer.ok()?.headers().get(header::DATE)?.to_str().ok().and_then(parse_date)?;
    Some(Clocks { here: OffsetDateTime::now_utc(), controller: date })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn dates_of_http_are_read_and_both_clocks_told() {
        let controller = parse_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(controller, datetime!(1994-11-06 08:49:37 UTC));
        assert_eq!(parse_date("yesterday"), None);
        let clocks = Clocks { here: datetime!(1994-11-06 08:59:37.5 UTC), controller };
        assert!(clocks.differ());
        let text = clocks.to_string();
        assert!(
            text.contains("says 1994-11-06T08:59:37Z; the controller says 1994-11-06T08:49:37Z"),
            "{text}"
        );
        assert!(!Clocks { here: controller + Duration::from_secs(4), controller }.differ());
    }
}
