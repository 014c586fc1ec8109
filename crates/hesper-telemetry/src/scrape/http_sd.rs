//! Targets from a URL (<https://prometheus.io/docs/prometheus/latest/http_sd/>). The last good list stays when the URL fails.

use super::{Context, Found, fetch::Client, lock, room::Room};
use hesper_collector_config::{Address, Endpoint, receivers::HttpSd};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// The largest list in bytes: far more than any job may have targets.
const LARGEST: u64 = 16 << 20;
/// The longest wait for an answer; lists that are asked for more often have less time.
const LONGEST: Duration = Duration::from_secs(60);

/// What is wrong with a URL, if anything is.
pub(super) type Complaint = Arc<Mutex<Option<String>>>;

/// Asks again and again, until nobody wants to know any more.
pub(super) async fn run(
    context: Arc<Context>,
    sd: HttpSd,
    found: watch::Sender<Option<Arc<Found>>>,
    complaint: Complaint,
) {
    let mut client = None;
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = found.closed() => return,
            list = ask(&context, &sd, &mut client) => match list {
                Ok(list) => {
                    *lock(&complaint) = None;
                    found.send_if_modified(|known| {
                        let list = Some(Arc::new(list));
                        let is_new = *known != list;
                        *known = list;
                        is_new
                    });
                }
                Err(reason) => {
                    let reason = format!("http_sd {}: {reason}", sd.url);
                    tracing::warn!(receiver = context.name, reason, "no list of targets");
                    *lock(&complaint) = Some(reason);
                    // The list stays; that something is wrong is told.
                    found.send_modify(|_| {});
                }
            },
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = found.closed() => return,
            () = sleep(sd.refresh_interval) => {}
        }
    }
}

async fn ask(context: &Context, sd: &HttpSd, client: &mut Option<Client>) -> Result<Found, String> {
    let (path, query, is_https) = match &sd.url {
        Endpoint::Mesh { path, query, .. } => (path, query, false),
        Endpoint::Underlay(Address { path, query, scheme, .. }) => {
            (path, query, scheme.as_deref() == Some("https"))
        }
    };
    if client.is_none() {
        let host = host(&sd.url);
        let connector = context.parts.connector.clone();
        let made = Client::new(&context.name, &sd.client, &sd.url, is_https, host, connector);
        *client = Some(made.map_err(|error| error.to_string())?);
    }
    let Some(client) = client else { return Err("there is no client".into()) };
    let path = if path.is_empty() { "/" } else { path };
    let query = query.as_ref().map(|query| format!("?{}", query.expose())).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    if let Ok(seconds) = HeaderValue::from_str(&sd.refresh_interval.as_secs_f64().to_string()) {
        headers.insert("x-prometheus-refresh-interval-seconds", seconds);
    }
    let longest = sd.refresh_interval.min(LONGEST);
    let mut room = Room::default().begin();
    let path = format!("{path}{query}");
    let asked = client.get(&path, &headers, LARGEST, &mut room);
    let page = timeout(longest, asked).await.map_err(|_| format!("no answer in {longest:?}"))?;
    let page = page.map_err(|failed| failed.reason)?;
    list(page.content_type.as_deref().unwrap_or_default(), &page.body, &sd.url.to_string())
}

fn host(url: &Endpoint) -> String {
    match url {
        Endpoint::Mesh { service, .. } => {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            service.chars().map(|c| if fits(c) { c } else { '-' }).collect()
        }
        Endpoint::Underlay(address) => address.authority(),
    }
}

/// Reads a list: `[{"targets": ["HOST:PORT"], "labels": {"NAME": "VALUE"}}]`.
fn list(content_type: &str, body: &[u8], url: &str) -> Result<Found, String> {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| {
        let value = parameter.to_ascii_lowercase();
        matches!(value.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"")
    });
    if !is_json || !is_utf8 {
        return Err(format!("the answer is '{}', not application/json", content_type.escape_debug()));
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the list is no JSON: {error}"))?;
    let groups = value.as_array().ok_or("the list is no list")?;
    let mut found = Found::new();
    for (number, group) in groups.iter().enumerate() {
        let bad = |what: &str| format!("group {number} of the list {what}");
        let group = group.as_object().ok_or_else(|| bad("is no group"))?;
        let mut labels = BTreeMap::from([("__meta_url".to_owned(), url.to_owned())]);
        match group.get("labels") {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (name, value) in map {
                    let value = value.as_str().ok_or_else(|| bad("has a label that is no text"))?;
                    labels.insert(name.clone(), value.to_owned());
                }
            }
            Some(_) => return Err(bad("has labels that are none")),
        }
        let targets = match group.get("targets") {
            None | Some(Value::Null) => continue,
            Some(targets) => targets.as_array().ok_or_else(|| bad("has targets that are no list"))?,
        };
        for target in targets {
            let address = target.as_str().ok_or_else(|| bad("has a target that is no text"))?;
            let mut labels = labels.clone();
            labels.insert("__address__".into(), address.to_owned());
            found.push(labels);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let body =
            br#"[{"targets": ["a:1", "b:2"], "labels": {"__meta_x": "y"}}, {"targets": []}, {"labels": {}}]"#;
        let got = list("Application/JSON; charset=utf-8", body, "http://sd").expect("a list");
        let of = |address: &str| {
            let labels = [("__address__", address), ("__meta_url", "http://sd"), ("__meta_x", "y")];
            labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        };
        assert_eq!(got, [of("a:1"), of("b:2")]);
        assert_eq!(list("application/json", b"[]", ""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (content_type, body, reason) in [
            ("text/html", "[]", "not application/json"),
            ("", "[]", "not application/json"),
            ("application/json; charset=latin1", "[]", "not application/json"),
            ("application/json", "[", "no JSON"),
            ("application/json", "{}", "no list"),
            ("application/json", "[null]", "group 0 of the list is no group"),
            ("application/json", r#"[{"targets": [1]}]"#, "a target that is no text"),
            ("application/json", r#"[{"targets": "a"}]"#, "no list"),
            ("application/json", r#"[{"labels": {"a": 1}}]"#, "a label that is no text"),
            ("application/json", r#"[{"labels": []}]"#, "labels that are none"),
        ] {
            let error = list(content_type, body.as_bytes(), "").expect_err(body);
            assert!(error.contains(reason), "{error}");
        }
    }
}
