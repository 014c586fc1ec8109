//! A service as nodes are told of it, and who hosts it now.

use super::Presence;
use hesper_model::{
    config::OtlpV1,
    entity::{ConfigType, Terminator, TerminatorStrategy},
    id::{ServiceId, Tag},
};
use hesper_policy::{Model, Request, decide};
use hesper_proto::control::{Service, ServiceHost};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// What is the same for everybody who may know of the service.
pub(super) fn service(model: &Model, service: &hesper_model::entity::Service) -> Service {
    // Who may send what is the controller's to know: each binder is told of each of its dialers, in the grant.
    let told = |of_type: &ConfigType| of_type.id.as_str() != OtlpV1::NAME;
    let configs = model.configs_of(service).into_iter().filter(|(of_type, _)| told(of_type));
    let strategy = serde_json::to_value(service.terminator_strategy).unwrap_or_default();
    Service {
        id: service.id.to_string(),
        name: service.name.clone(),
        role_attributes: service.role_attributes.iter().cloned().collect(),
        configs: configs.map(|(of_type, config)| (of_type.name.clone(), config.data.to_string())).collect(),
        terminator_strategy: strategy.as_str().unwrap_or_default().to_owned(),
        max_idle_time_millis: service.max_idle_time_millis,
        ..Service::default()
    }
}

/// What dialers are told of a service that is hosted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hosted {
    pub(super) hosts: Vec<ServiceHost>,
    /// See `Service.choice`.
    pub(super) choice: u64,
}

/// What the choice of a terminator depends on. It need not be the same after an upgrade: then dialers choose again.
fn digest(terminator: &Terminator, strategy: TerminatorStrategy, alarm: Option<&u64>) -> u64 {
    let Terminator { id, instance, cost, precedence, session, .. } = terminator;
    let mut hasher = DefaultHasher::new();
    (id.as_str(), instance, cost, precedence.to_string()).hash(&mut hasher);
    (session.map(|tag| tag.0), strategy as u8).hash(&mut hasher);
    // The others take no notice of costs once they have chosen.
    if matches!(strategy, TerminatorStrategy::Smartrouting | TerminatorStrategy::Weighted) {
        alarm.hash(&mut hasher);
    }
    hasher.finish()
}

/// Who hosts each service now: terminators of connected sessions whose host may still bind.
pub(super) fn hosts(model: &Model, presence: &Presence) -> HashMap<ServiceId, Hosted> {
    let mut hosts: HashMap<ServiceId, Hosted> = HashMap::new();
    let online = |tag: &Tag| presence.nodes.contains(tag);
    for terminator in model.terminators().filter(|t| t.session.as_ref().is_some_and(online)) {
        let bind = Request::Bind { identity: &terminator.host_id, service: &terminator.service_id };
        let Some(host) = model.identity(&terminator.host_id).filter(|_| decide(model, &bind).is_allowed())
        else {
            continue;
        };
        let of_service = hosts.entry(terminator.service_id.clone()).or_default();
        let strategy = model.service(&terminator.service_id).map(|s| s.terminator_strategy);
        // Whatever the order.
        let alarm = presence.alarms.get(&terminator.id);
        let of_terminator = digest(terminator, strategy.unwrap_or_default(), alarm);
        of_service.choice = of_service.choice.wrapping_add(of_terminator);
        of_service.hosts.push(ServiceHost {
            identity_id: host.id.to_string(),
            identity_name: host.name.clone(),
            instance: terminator.instance.clone(),
            role_attributes: host.role_attributes.iter().cloned().collect(),
        });
    }
    for Hosted { hosts: of_service, .. } in hosts.values_mut() {
        of_service.sort_by(|a, b| (&a.identity_name, &a.instance).cmp(&(&b.identity_name, &b.instance)));
        of_service.dedup();
    }
    hosts
}
