//! What should run, and what to start and stop so that it does: plain differences between a view and what runs now.

use crate::{app_data::AppData, service::Configs, target};
use hesper_model::{
    config::{HostV1, Protocol},
    entity::Precedence,
};
use hesper_sdk::NodeView;
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Something that was configured but cannot be done. Said once, not on every change of the view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The service.
    pub service: String,
    /// Why.
    pub reason: String,
}

/// A bind is known by service and instance: the controller keeps one terminator for both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingKey {
    /// Id of the service.
    pub service_id: String,
    /// Name of the service: a renamed service is bound anew.
    pub service: String,
    /// Instance id; the identity's name, if nothing else is configured.
    pub instance: String,
}

/// One service to bind, and where its streams and datagrams go.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Static cost; none = the identity's default.
    pub cost: Option<u16>,
    /// Precedence; none = the identity's default.
    pub precedence: Option<Precedence>,
    /// How long a flow of datagrams may be idle, if the service says so. (Idle streams are ended by their dialers.)
    pub max_idle: Option<Duration>,
    /// Targets, the best first; the next is tried when one cannot be connected to.
    pub targets: Vec<HostV1>,
}

impl Binding {
    /// All targets in one line, for operators.
    pub fn address(&self) -> String {
        self.targets.iter().map(target::describe).collect::<Vec<_>>().join(",")
    }
}

/// Every service that this view says to host: Bind permission, and a `host.v1` or `host.v2` config.
///
/// The terminators of a `host.v2` that share an instance id are one bind with several targets. Without `listenOptions.identity` the
/// instance id is the identity's name (whatever `bindUsingEdgeIdentity` says), so that each host can be dialed by itself.
pub fn bindings(view: &NodeView) -> (BTreeMap<BindingKey, Binding>, Vec<Skipped>) {
    let mut bindings: BTreeMap<BindingKey, Binding> = BTreeMap::new();
    let mut skipped = Vec::new();
    for service in view.services.iter().filter(|s| s.may_bind) {
        let configs = Configs::of(service);
        let max_idle = Some(Duration::from_millis(service.max_idle_time_millis)).filter(|i| !i.is_zero());
        let skip = |reason: String| Skipped { service: service.name.clone(), reason };
        skipped
            .extend(configs.faults.iter().map(|fault| skip(format!("its config cannot be read: {fault}"))));
        for host in configs.hosting {
            let key = BindingKey {
                service_id: service.id.clone(),
                service: service.name.clone(),
                instance: instance(&host, &view.identity_name),
            };
            let targets = &mut bindings
                .entry(key)
                .or_insert_with(|| Binding { cost: None, precedence: None, max_idle, targets: Vec::new() })
                .targets;
            targets.push(host);
        }
    }
    bindings.values_mut().for_each(order);
    (bindings, skipped)
}

/// Best target first; the bind has the cost and precedence of its best target.
fn order(binding: &mut Binding) {
    let rank = |host: &HostV1| {
        let options = host.listen_options.as_ref();
        let precedence = options.and_then(|o| o.precedence).unwrap_or_default();
        (precedence, options.and_then(|o| o.cost).unwrap_or_default())
    };
    binding.targets.sort_by_key(rank);
    if let Some(options) = binding.targets.first().and_then(|h| h.listen_options.as_ref()) {
        (binding.cost, binding.precedence) = (options.cost, options.precedence);
    }
}

fn instance(host: &HostV1, identity_name: &str) -> String {
    let options = host.listen_options.as_ref().filter(|o| o.bind_using_edge_identity != Some(true));
    let template = options.and_then(|o| o.identity.as_ref());
    let configured = template.map(|t| AppData::default().expand(t, identity_name));
    configured.filter(|i| !i.is_empty()).unwrap_or_else(|| identity_name.to_owned())
}

/// A change of what is bound.
#[derive(Clone, Debug, PartialEq)]
pub enum BindEffect {
    /// Bind it.
    Bind(BindingKey, Binding),
    /// Keep it bound: other targets for new streams, and another cost or precedence (see [`needs_rebind`]).
    Update(BindingKey, Binding),
    /// Unbind it.
    Unbind(BindingKey),
}

/// From what is bound to what should be, stops before starts.
pub fn bind_effects(
    running: &BTreeMap<BindingKey, Binding>,
    wanted: &BTreeMap<BindingKey, Binding>,
) -> Vec<BindEffect> {
    let gone = running.keys().filter(|key| !wanted.contains_key(key)).cloned().map(BindEffect::Unbind);
    let others = wanted.iter().filter_map(|(key, binding)| match running.get(key) {
        Some(now) if now == binding => None,
        Some(_) => Some(BindEffect::Update(key.clone(), binding.clone())),
        None => Some(BindEffect::Bind(key.clone(), binding.clone())),
    });
    gone.chain(others).collect()
}

/// Must the service be unbound and bound anew for this change? A cost or precedence that was given and is no longer cannot be taken
/// back by an update: the identity's default is unknown here.
pub fn needs_rebind(now: &Binding, wanted: &Binding) -> bool {
    (now.cost.is_some() && wanted.cost.is_none()) || (now.precedence.is_some() && wanted.precedence.is_none())
}

/// A local address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Local {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address.
    pub address: SocketAddr,
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol, self.address)
    }
}

/// Every listener that this view says to open: `proxy.v1` configs of services that may be dialed.
///
/// An address that two services ask for goes to the first by name.
pub fn proxy_listeners(view: &NodeView) -> (BTreeMap<Local, String>, Vec<Skipped>) {
    let mut listeners = BTreeMap::new();
    let mut skipped = Vec::new();
    let mut services: Vec<_> = view.services.iter().filter(|s| s.may_dial).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    for service in services {
        let Some(proxy) = Configs::of(service).proxy else { continue };
        let skip = |reason: String| Skipped { service: service.name.clone(), reason };
        let address = SocketAddr::new(proxy.binding.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), proxy.port);
        for protocol in proxy.protocols {
            let local = Local { protocol, address };
            match listeners.get(&local) {
                None => {
                    listeners.insert(local, service.name.clone());
                }
                Some(other) => {
                    skipped.push(skip(format!("its proxy.v1 asks for {local}, which service '{other}' has")))
                }
            }
        }
    }
    (listeners, skipped)
}

/// A change of what is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenEffect {
    /// Listen there for this service.
    Open(Local, String),
    /// Listen there no more; connections that are open go on.
    Close(Local),
}

/// From what is listened on to what should be, closes before opens.
pub fn listen_effects(
    running: &BTreeMap<Local, String>,
    wanted: &BTreeMap<Local, String>,
) -> Vec<ListenEffect> {
    let same = |local: &Local, service: &String, others: &BTreeMap<Local, String>| {
        others.get(local) == Some(service)
    };
    let close = running.iter().filter(|(a, s)| !same(a, s, wanted)).map(|(a, _)| ListenEffect::Close(*a));
    let open =
        wanted.iter().filter(|(a, s)| !same(a, s, running)).map(|(a, s)| ListenEffect::Open(*a, s.clone()));
    close.chain(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{service, view};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn tcp(port: u16, options: Value) -> Value {
        json!({"protocol": "tcp", "address": "localhost", "port": port, "listenOptions": options})
    }

    fn show(view: &NodeView) -> Vec<String> {
        let (bindings, _) = bindings(view);
        let show = |(key, b): (BindingKey, Binding)| {
            let precedence = b.precedence.map(|p| p.to_string()).unwrap_or_default();
            format!("{}@{} {} {:?} {precedence}", key.instance, key.service, b.address(), b.cost)
        };
        bindings.into_iter().map(show).collect()
    }

    #[test]
    fn hosting_table() {
        let view = view(vec![
            service("plain").config("host.v1", json!({"protocol": "tcp", "address": "127.0.0.1", "port": 9100})),
            service("unnamed").config("host.v1", tcp(1, json!({"bindUsingEdgeIdentity": false}))),
            service("named").config("host.v1", tcp(2, json!({"identity": "$tunneler_id.name-x", "cost": 5, "precedence": "failed"}))),
            service("both").config("host.v1", tcp(3, json!({}))).config(
                "host.v2",
                json!({"terminators": [tcp(4, json!({"cost": 9})), tcp(5, json!({"cost": 1})), tcp(6, json!({"identity": "other"})),
                    tcp(7, json!({"precedence": "required", "cost": 50}))]}),
            ),
            service("udp").config("host.v1", json!({"protocol": "udp", "address": "localhost", "port": 53})),
            service("broken").config("host.v1", json!({"protocol": "sctp"})),
            service("without"),
            service("forbidden").dial_only().config("host.v1", tcp(8, json!({}))),
        ]);
        assert_eq!(
            show(&view),
            [
                "me@both tcp:localhost:7,tcp:localhost:5,tcp:localhost:4 Some(50) required",
                "other@both tcp:localhost:6 None ",
                "me-x@named tcp:localhost:2 Some(5) failed",
                "me@plain tcp:127.0.0.1:9100 None ",
                "me@udp udp:localhost:53 None ",
                "me@unnamed tcp:localhost:1 None ",
            ]
        );
        let (_, skipped) = bindings(&view);
        let skipped: Vec<_> = skipped.iter().map(|s| format!("{}: {}", s.service, s.reason)).collect();
        assert!(
            skipped[0].starts_with("broken: its config cannot be read: host.v1: unknown variant `sctp`"),
            "{skipped:?}"
        );
    }

    #[test]
    fn changes_disturb_no_more_than_they_must() {
        let of = |config: Value| bindings(&view(vec![service("s").config("host.v1", config)])).0;
        let none = BTreeMap::new();
        let one = of(tcp(1, json!({})));
        let key = one.keys().next().expect("one").clone();
        assert_eq!(bind_effects(&none, &one), [BindEffect::Bind(key.clone(), one[&key].clone())]);
        assert_eq!(bind_effects(&one, &one), []);
        assert_eq!(bind_effects(&one, &none), [BindEffect::Unbind(key.clone())]);
        let moved = of(tcp(2, json!({"cost": 3})));
        assert_eq!(bind_effects(&one, &moved), [BindEffect::Update(key.clone(), moved[&key].clone())]);
        assert!(!needs_rebind(&one[&key], &moved[&key]));
        assert!(needs_rebind(&moved[&key], &one[&key]), "a cost is not taken back by an update");
        let renamed = of(tcp(1, json!({"identity": "x"})));
        assert!(matches!(&bind_effects(&one, &renamed)[..], [BindEffect::Unbind(_), BindEffect::Bind(..)]));
    }

    #[test]
    fn listeners_follow_proxy_v1() {
        let proxy = |port: u16, protocol: &str| json!({"port": port, "protocols": [protocol]});
        let view = view(vec![
            service("b").config("proxy.v1", proxy(80, "tcp")),
            service("a").config("proxy.v1", proxy(80, "tcp")),
            service("c")
                .config("proxy.v1", json!({"port": 80, "protocols": ["tcp", "udp"], "binding": "127.0.0.2"})),
            service("d").config("proxy.v1", proxy(53, "udp")),
            service("e").bind_only().config("proxy.v1", proxy(81, "tcp")),
        ]);
        let (listeners, skipped) = proxy_listeners(&view);
        let listeners: Vec<_> = listeners.iter().map(|(a, s)| format!("{a} {s}")).collect();
        assert_eq!(
            listeners,
            ["tcp:127.0.0.1:80 a", "tcp:127.0.0.2:80 c", "udp:127.0.0.1:53 d", "udp:127.0.0.2:80 c"]
        );
        assert_eq!(skipped[0].reason, "its proxy.v1 asks for tcp:127.0.0.1:80, which service 'a' has");
        assert_eq!(skipped.len(), 1);
    }

    fn listeners() -> impl Strategy<Value = BTreeMap<Local, String>> {
        prop::collection::btree_map(
            (1..3_u16, any::<bool>()).prop_map(|(port, udp)| Local {
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                address: SocketAddr::from(([127, 0, 0, 1], port)),
            }),
            "[ab]",
            0..4,
        )
    }

    fn binding_map() -> impl Strategy<Value = BTreeMap<BindingKey, Binding>> {
        let key =
            "[abc]".prop_map(|s| BindingKey { service_id: s.clone(), service: s, instance: String::new() });
        let binding = (prop::option::of(0..3_u16), any::<bool>()).prop_map(|(cost, required)| Binding {
            cost,
            precedence: required.then_some(Precedence::Required),
            max_idle: None,
            targets: Vec::new(),
        });
        prop::collection::btree_map(key, binding, 0..4)
    }

    proptest! {
        #[test]
        fn effects_lead_to_what_is_wanted(mut running in binding_map(), wanted in binding_map()) {
            for effect in bind_effects(&running, &wanted) {
                match effect {
                    BindEffect::Bind(key, binding) => prop_assert!(running.insert(key, binding).is_none()),
                    BindEffect::Update(key, binding) => prop_assert!(running.insert(key, binding).is_some()),
                    BindEffect::Unbind(key) => prop_assert!(running.remove(&key).is_some()),
                }
            }
            prop_assert_eq!(running, wanted);
        }

        #[test]
        fn listeners_become_what_is_wanted(mut running in listeners(), wanted in listeners()) {
            for effect in listen_effects(&running, &wanted) {
                match effect {
                    ListenEffect::Open(address, service) => prop_assert!(running.insert(address, service).is_none()),
                    ListenEffect::Close(address) => prop_assert!(running.remove(&address).is_some()),
                }
            }
            prop_assert_eq!(running, wanted);
        }
    }
}
