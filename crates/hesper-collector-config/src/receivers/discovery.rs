//! Where targets come from: a list, a URL (`http_sd_configs`), or the mesh (`hesper_sd_configs`, ours).
//!
//! ```yaml
//! hesper_sd_configs:
//!   - service: [metrics]        # these services only; empty: every one that this identity may dial
//!     role: ["#scrape"]         # with one of these role attributes, their own or their host's
//! ```
//! A target of the mesh has the labels that the node's own `/sd` gives (`__meta_hesper_service` and so on).

use super::scrape::{ScrapeClient, client};
use crate::{Endpoint, common::client_url, section::Section};
use std::{collections::BTreeMap, time::Duration};

/// Targets by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticTargets {
    /// `HOST:PORT` on the network, or `hesper://[INSTANCE@]SERVICE`.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, String>,
}

/// Targets from a URL.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSd {
    /// The URL.
    pub url: Endpoint,
    /// How often it is asked (1 min).
    pub refresh_interval: Duration,
    /// How it is reached.
    pub client: ScrapeClient,
}

/// Targets from the mesh; they follow it at once, nothing is asked in intervals.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HesperSd {
    /// Only services with one of these names; empty = all.
    pub services: Vec<String>,
    /// Only services, or hosting identities, with one of these role attributes (without `#`); empty = all.
    pub attributes: Vec<String>,
}

pub(super) fn static_targets(s: &Section<'_>) -> StaticTargets {
    for scalar in s.scalars("targets") {
        let text = &scalar.text.text;
        let next = "write HOST:PORT, or hesper://SERVICE; the scheme and the path are keys of the job";
        match Endpoint::parse(text) {
            Err((reason, next)) => {
                s.fault(scalar.place, format!("the target {}: {reason}", scalar.text.shown()), next);
            }
            Ok(endpoint)
                if endpoint.has_path() || endpoint.underlay().is_some_and(|a| a.scheme.is_some()) =>
            {
                s.fault(scalar.place, format!("the target {} is a URL", scalar.text.shown()), next);
            }
            Ok(_) => {}
        }
    }
    s.require("targets", "write targets: [HOST:PORT]");
    StaticTargets { targets: s.texts("targets"), labels: s.text_map("labels") }
}

pub(super) fn http_sd(s: &Section<'_>) -> Option<HttpSd> {
    s.require("url", "write the URL that lists the targets");
    let url = client_url(s, "url");
    let refresh_interval = s.prometheus_duration("refresh_interval").unwrap_or(Duration::from_secs(60));
    if refresh_interval.is_zero() {
        s.refuse("refresh_interval", "zero", "write how often, such as 1m");
    }
    let client = client(s);
    Some(HttpSd { url: url?, refresh_interval, client })
}

pub(super) fn hesper_sd(s: &Section<'_>) -> HesperSd {
    let mut attributes = Vec::new();
    for scalar in s.scalars("role") {
        match scalar.text.text.strip_prefix('#').filter(|attribute| !attribute.is_empty()) {
            Some(attribute) => attributes.push(attribute.to_owned()),
            None => {
                let reason = format!("{} is no role attribute", scalar.text.shown());
                s.fault(scalar.place, reason, "write \"#ATTRIBUTE\", in quotes");
            }
        }
    }
    s.idle("refresh_interval", "targets follow the mesh at once");
    HesperSd { services: s.texts("service"), attributes }
}
