//! Who calls, and how we say who we are.

mod basic;
mod bearer;
mod client;
mod oidc;

use hesper_collector_config::{Component, Config, Extension, Id, load};
use hesper_otlp::Refusal;
use hesper_telemetry::{
    auth::{AuthData, Authenticator},
    net::Peer,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{collections::BTreeMap, time::Duration};

/// Nothing here takes that long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// The extensions of a configuration, as its reader has them.
fn extensions(text: &str) -> BTreeMap<Id, Component<Extension>> {
    let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "extensions:\n{indented}receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{debug: }}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}}}\n"
    );
    let (config, _): (Config, _) =
        load(&[("test.yaml", &text)], &|_| None).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    config.extensions
}

/// The only one.
fn extension(text: &str) -> Extension {
    extensions(text).into_values().next().expect("an extension").settings
}

fn header(name: &str, value: &str) -> HeaderMap {
    let name: HeaderName = name.parse().expect("a name");
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a value"))])
}

async fn check(authenticator: &dyn Authenticator, headers: &HeaderMap) -> Result<AuthData, Refusal> {
    tokio::time::timeout(DEADLINE, authenticator.check(headers, &Peer::default())).await.expect("in time")
}

/// Asks until the answer is as wanted.
async fn until(authenticator: &dyn Authenticator, headers: &HeaderMap, wanted: bool) {
    let changed = async {
        while authenticator.check(headers, &Peer::default()).await.is_ok() != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, changed).await.expect("the change is seen");
}

fn reason(refusal: Refusal) -> String {
    match refusal {
        Refusal::Unauthenticated(reason) => reason,
        other => panic!("{other:?}"),
    }
}
