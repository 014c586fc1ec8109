//! From the name in a request to the service that is meant.
//!
//! Three kinds of name, in this order: an `intercept.v1` address and port or a service's name, exactly;
//! `<instance>.<service>.hesper` (or just `<service>.hesper`), where ids may stand for names; an intercept wildcard or CIDR range,
//! the longest first. Nothing is ever looked up in DNS. Where a name could mean two things it means neither: the error names both.

use crate::{app_data::AppData, service::Configs};
use hesper_model::config::{AddressPattern, InterceptV1, Protocol};
use hesper_sdk::{NodeView, ServiceHost};
use std::time::Duration;

/// The domain of names of the form `<instance>.<service>.hesper`.
pub const DOMAIN: &str = ".hesper";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Name of the service.
    pub service: String,
    /// The instance to dial; none = any.
    pub instance: Option<String>,
    /// How long the dial may take, if a config says so.
    pub timeout: Option<Duration>,
}

/// Why a name stands for nothing that can be dialed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing is called that, as far as this identity knows.
    #[error(
        "no service '{host}' (port {port}) that this identity may dial: it is no intercept.v1 address, no service name and no \
         <instance>.<service>.hesper; check the name, or ask for a Dial service-policy that has both"
    )]
    Unknown {
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
    },
    /// The identity may host that service, but not dial it.
    #[error("this identity may not dial service '{service}': no Dial service-policy has both")]
    Forbidden {
        /// The service.
        service: String,
    },
    /// It could mean several.
    #[error("'{host}' is ambiguous, it may mean {}; use a name that means one", .candidates.join(" or "))]
    Ambiguous {
        /// The host asked for.
        host: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// The identity hosts the service without an instance id, and so do others.
    #[error(
        "identity '{identity}' hosts service '{service}' without an instance id and is not the only host, so it cannot be dialed by \
         itself: bind it with an instance (listenOptions.identity or bindUsingEdgeIdentity)"
    )]
    NoInstance {
        /// The hosting identity.
        identity: String,
        /// The service.
        service: String,
    },
}

/// Every name that one identity may use now. Made anew for each view.
#[derive(Clone, Debug, Default)]
pub struct Names {
    identity_name: String,
    services: Vec<Named>,
}

#[derive(Clone, Debug)]
struct Named {
    id: String,
    name: String,
    may_dial: bool,
    intercept: Option<InterceptV1>,
    hosts: Vec<ServiceHost>,
}

/// One way to read `<instance>.<service>.hesper`.
struct Reading<'a> {
    service: &'a Named,
    label: Option<&'a str>,
    /// The instance to dial, if the label is one of the service's hosts (or there is no label).
    known: Option<Result<Option<String>, ResolveError>>,
}

impl Names {
    /// The names of a view.
    pub fn of(view: &NodeView) -> Self {
        let services = view.services.iter().map(|service| Named {
            id: service.id.clone(),
            name: service.name.clone(),
            may_dial: service.may_dial,
            intercept: Configs::of(service).intercept.filter(|i| i.protocols.contains(&Protocol::Tcp)),
            hosts: service.hosts.clone(),
        });
        Self { identity_name: view.identity_name.clone(), services: services.collect() }
    }

    /// What a host (name or IP address) and TCP port stand for.
    ///
    /// # Errors
    /// [`ResolveError`]: nothing, nothing that may be dialed, or more than one thing.
    pub fn resolve(&self, host: &str, port: u16) -> Result<Resolved, ResolveError> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Some(found) = self.exact(host, port) {
            return found;
        }
        if let Some(found) = self.instance_form(host) {
            return found;
        }
        if let Some(found) = self.pattern(host, port) {
            return found;
        }
        match self.services.iter().find(|s| same(&s.name, host)) {
            Some(service) => Err(ResolveError::Forbidden { service: service.name.clone() }),
            None => Err(ResolveError::Unknown { host: host.to_owned(), port }),
        }
    }

    fn dialable(&self) -> impl Iterator<Item = &Named> {
        self.services.iter().filter(|s| s.may_dial)
    }

    fn exact(&self, host: &str, port: u16) -> Option<Result<Resolved, ResolveError>> {
        let intercepted: Vec<_> = self
            .dialable()
            .filter_map(|s| Some((s, s.intercepts(host, port)?)))
            .filter(|(_, pattern)| is_exact(pattern))
            .map(|(s, _)| s)
            .collect();
        let named = match self.dialable().find(|s| s.name == host) {
            Some(service) => vec![service],
            None => self.dialable().filter(|s| same(&s.name, host)).collect(),
        };
        let mut all = intercepted.clone();
        all.extend(named.into_iter().filter(|n| !intercepted.iter().any(|i| i.id == n.id)));
        match all[..] {
            [] => None,
            [one] if intercepted.is_empty() => Some(Ok(one.any())),
            [one] => Some(Ok(self.through_intercept(one, host, port))),
            _ => Some(Err(ambiguous(host, all.iter().map(|s| format!("service '{}'", s.name))))),
        }
    }

    fn pattern(&self, host: &str, port: u16) -> Option<Result<Resolved, ResolveError>> {
        let matching: Vec<_> =
            self.dialable().filter_map(|s| Some((s, specificity(s.intercepts(host, port)?)))).collect();
        let longest = matching.iter().map(|(_, length)| *length).max()?;
        let best: Vec<_> =
            matching.iter().filter(|(_, length)| *length == longest).map(|(s, _)| *s).collect();
        match best[..] {
            [one] => Some(Ok(self.through_intercept(one, host, port))),
            _ => Some(Err(ambiguous(host, best.iter().map(|s| format!("service '{}'", s.name))))),
        }
    }

    fn through_intercept(&self, service: &Named, host: &str, port: u16) -> Resolved {
        let Some(intercept) = &service.intercept else { return service.any() };
        let template = intercept.dial_options.as_ref().and_then(|o| o.identity.as_deref());
        let instance = template.map(|t| AppData::tcp(host, port, None).expand(t, &self.identity_name));
        Resolved {
            service: service.name.clone(),
            instance: instance.filter(|i| !i.is_empty()),
            timeout: Some(intercept.connect_timeout()),
        }
    }

    fn instance_form(&self, host: &str) -> Option<Result<Resolved, ResolveError>> {
        let cut = host.len().checked_sub(DOMAIN.len()).filter(|&cut| host.is_char_boundary(cut))?;
        let rest = Some(&host[..cut]).filter(|_| host[cut..].eq_ignore_ascii_case(DOMAIN))?;
        let is_known = |r: &Reading<'_>| r.known.is_some();
        let mut readings = self.readings(rest, |a, b| a == b);
        if !readings.iter().any(is_known) {
            let regardless_of_case = self.readings(rest, same);
            if readings.is_empty() || regardless_of_case.iter().any(is_known) {
                readings = regardless_of_case;
            }
        }
        if readings.iter().any(is_known) {
            readings.retain(is_known);
        }
        match &mut readings[..] {
            [] => None,
            [one] => Some(match one.known.take() {
                Some(Ok(instance)) => Ok(Resolved { instance, ..one.service.any() }),
                Some(Err(error)) => Err(error),
                None => Ok(Resolved { instance: one.label.map(str::to_owned), ..one.service.any() }),
            }),
            several => Some(Err(ambiguous(host, several.iter().map(Reading::describe)))),
        }
    }

    fn readings<'a>(&'a self, rest: &'a str, same: fn(&str, &str) -> bool) -> Vec<Reading<'a>> {
        let mut readings: Vec<Reading<'a>> = Vec::new();
        for service in self.dialable() {
            for name in [&service.name, &service.id] {
                let Some((label, matched)) = split(rest, name.len()) else { continue };
                if !same(matched, name)
                    || readings.iter().any(|r| r.service.id == service.id && r.label == label)
                {
                    continue;
                }
                let known = match label {
                    None => Some(Ok(None)),
                    Some(label) => service.known_instance(label, same),
                };
                readings.push(Reading { service, label, known });
            }
        }
        readings
    }
}

impl Reading<'_> {
    fn describe(&self) -> String {
        match self.label {
            Some(label) => format!("instance '{label}' of service '{}'", self.service.name),
            None => format!("service '{}'", self.service.name),
        }
    }
}

impl Named {
    /// The service itself, whichever host.
    fn any(&self) -> Resolved {
        Resolved { service: self.name.clone(), instance: None, timeout: None }
    }

    /// The most specific of its intercept addresses that has this host, if it has the port as well.
    fn intercepts(&self, host: &str, port: u16) -> Option<&AddressPattern> {
        let intercept = self.intercept.as_ref().filter(|i| i.port_ranges.iter().any(|r| r.contains(port)))?;
        intercept.addresses.iter().filter(|a| a.matches(host)).max_by_key(|a| specificity(a))
    }

    /// The instance by which the host called `label` is dialed: by instance id, else by the identity's name or id. None = no
    /// such host now.
    fn known_instance(
        &self,
        label: &str,
        same: fn(&str, &str) -> bool,
    ) -> Option<Result<Option<String>, ResolveError>> {
        if let Some(host) = self.hosts.iter().find(|h| !h.instance.is_empty() && same(&h.instance, label)) {
            return Some(Ok(Some(host.instance.clone())));
        }
        let mut hosts =
            self.hosts.iter().filter(|h| same(&h.identity_name, label) || same(&h.identity_id, label));
        let first = hosts.next()?;
        let mut instances = vec![&first.instance];
        instances.extend(hosts.map(|h| &h.instance));
        instances.dedup();
        Some(match instances[..] {
            [one] if !one.is_empty() => Ok(Some(one.clone())),
            [_] if self.hosts.len() == 1 => Ok(None),
            [_] => Err(ResolveError::NoInstance {
                identity: first.identity_name.clone(),
                service: self.name.clone(),
            }),
            _ => Err(ambiguous(
                label,
                instances.iter().map(|i| format!("instance '{i}' of service '{}'", self.name)),
            )),
        })
    }
}

/// The last `len` bytes, and what is before them and a dot (none = nothing).
fn split(rest: &str, len: usize) -> Option<(Option<&str>, &str)> {
    let at = rest.len().checked_sub(len).filter(|&at| len > 0 && rest.is_char_boundary(at))?;
    if at == 0 {
        return Some((None, rest));
    }
    let label = rest[..at].strip_suffix('.').filter(|label| !label.is_empty())?;
    Some((Some(label), &rest[at..]))
}

const fn is_exact(pattern: &AddressPattern) -> bool {
    matches!(pattern, AddressPattern::Hostname(_) | AddressPattern::Ip(_))
}

/// How much of a name a pattern fixes; only compared among patterns that match the same host.
fn specificity(pattern: &AddressPattern) -> usize {
    match pattern {
        AddressPattern::Hostname(_) | AddressPattern::Ip(_) => usize::MAX,
        AddressPattern::Wildcard(domain) => domain.len(),
        AddressPattern::Cidr { prefix_length, .. } => usize::from(*prefix_length),
    }
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn ambiguous(host: &str, candidates: impl Iterator<Item = String>) -> ResolveError {
    ResolveError::Ambiguous { host: host.to_owned(), candidates: candidates.collect() }
}

#[cfg(test)]
mod tests;
