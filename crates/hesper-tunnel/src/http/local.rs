//! What the proxy answers itself: `/sd`, `/metrics`, `/healthz`.
//!
//! Only to whoever asks by IP address or as localhost: a web page whose name was made to point at loopback (DNS rebinding) asks by
//! that name, and a page that asks across sites says so.

use super::{Body, Failure, failure::full, text};
use crate::{Known, sd};
use hesper_observe::metrics::{Registry, exposition};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use std::net::IpAddr;

/// The answer to a request for this proxy itself.
pub(super) fn answer(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    known: &Known,
    registry: &Registry,
) -> Result<Response<Body>, Failure> {
    check_origin(uri, headers)?;
    if method != Method::GET && method != Method::HEAD {
        return Err(Failure::Method);
    }
    match uri.path() {
        "/sd" => {
            let query = sd::Query::parse(uri.query().unwrap_or_default())
                .map_err(|invalid| Failure::BadRequest(invalid.to_string()))?;
            let targets = sd::targets(&known.view, &known.names, &query);
            let json = serde_json::to_vec(&targets).map_err(|e| Failure::Target(e.to_string()))?;
            let mut response = Response::new(full(json));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        }
        "/metrics" => Ok(exposition(headers, registry).map(|body| body.map_err(Into::into).boxed_unsync())),
        "/healthz" => Ok(match known.health() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }),
        path => Err(Failure::NotFound(format!(
            "nothing at '{path}': this is an HTTP proxy (proxy_url of Prometheus, curl -x); by itself it answers /sd, /metrics and \
             /healthz"
        ))),
    }
}

fn check_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let host = match uri.host() {
        Some(host) => host,
        None => headers.get(header::HOST).and_then(|h| h.to_str().ok()).map_or("", without_port),
    };
    if !is_own_name(host) {
        return Err(Failure::Forbidden(format!(
            "'{host}' is not a name of this proxy: ask by IP address or as localhost"
        )));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let own = origin
            .to_str()
            .ok()
            .and_then(|o| o.split_once("://"))
            .is_some_and(|(_, h)| is_own_name(without_port(h)));
        if !own {
            return Err(Failure::Forbidden("pages of other sites are not answered".into()));
        }
    }
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Failure::Forbidden("pages of other sites are not answered".into()));
    }
    Ok(())
}

/// localhost or an IP address: what DNS cannot be made to say.
pub(super) fn is_own_name(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// `[::1]:80` as `[::1]`, `a:80` as `a`.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: &'static str, more: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        for (name, value) in more {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        check_origin(&Uri::from_static("/sd"), &headers).is_ok()
    }

    #[test]
    fn only_who_asks_by_address_or_as_localhost() {
        for host in
            ["127.0.0.1:9180", "localhost", "LOCALHOST:9180", "[::1]:9180", "[::1]", "192.168.0.7:9180"]
        {
            assert!(allowed(host, &[]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9180",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
        ] {
            assert!(!allowed(host, &[]), "{host}");
        }
        assert!(!allowed("127.0.0.1", &[("origin", "https://evil.example")]));
        assert!(!allowed("127.0.0.1", &[("origin", "null")]));
        assert!(allowed("127.0.0.1", &[("origin", "http://localhost:9180")]));
        assert!(!allowed("127.0.0.1", &[("sec-fetch-site", "cross-site")]));
        assert!(allowed("127.0.0.1", &[("sec-fetch-site", "same-origin")]));
    }
}
