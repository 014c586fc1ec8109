//! What a bind does to the stored terminators, or why it is refused. Pure.

use super::refusal::{Refused, no_such_service};
use crate::trace::decide;
use hesper_model::{
    entity::{Identity, Precedence, Service, Terminator},
    id::{MAX_NAME_LEN, Tag, TerminatorId},
};
use hesper_pki::digest::sha256_hex;
use hesper_policy::{Model, Request, Rule, terminators::may_answer_to};
use hesper_proto::control::{BindRequest, UpdateTerminatorRequest};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use tonic::Code;

/// How a terminator made by a bind came to be.
pub(crate) const BINDING: &str = "hesper";
/// Terminators of one session: a node in front of some hundred targets is large.
pub(crate) const TERMINATORS_PER_SESSION_MAX: usize = 4_096;
/// Longest address text; it is for the operator's eyes only.
const ADDRESS_MAX: usize = 1_024;
/// Digits of the digest that is a terminator's id.
const ID_DIGITS: usize = 20;

/// Who hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host<'a> {
    /// The identity.
    pub(crate) identity: &'a Identity,
    /// Its session.
    pub(crate) tag: Tag,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan {
    /// Nothing: it is there.
    Keep(Box<Terminator>),
    /// A new terminator.
    Create(Box<Terminator>),
    /// The terminator as it should be.
    Update(Box<Terminator>),
}

/// A bind that is allowed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    /// What to write.
    pub(crate) plan: Plan,
    /// The Bind policy that allowed it.
    pub(crate) rule: Rule,
}

/// Decides a bind. The same session, service and instance always have the same terminator. A bind without an instance gets
/// the identity's name, so that `identity@service` reaches every host.
///
/// # Errors
/// Why not.
pub(crate) fn bind(
    model: &Model,
    host: &Host<'_>,
    request: &BindRequest,
    now: OffsetDateTime,
) -> Result<Bound, Refused> {
    let (service, rule) = service(model, host.identity, &request.service)?;
    check_text("instance", &request.instance, MAX_NAME_LEN)?;
    check_text("address", &request.address, ADDRESS_MAX)?;
    let instance = Some(&request.instance).filter(|i| !i.is_empty()).unwrap_or(&host.identity.name);
    check_instance_owner(model, host, service, instance)?;
    // By what was asked for: the terminator of an unnamed bind stays the same when the identity is renamed.
    let id = terminator_id(host.tag, service, &request.instance);
    let wanted = Terminator {
        id: id.clone(),
        service_id: service.id.clone(),
        host_id: host.identity.id.clone(),
        router_id: None,
        binding: BINDING.to_owned(),
        address: request.address.clone(),
        instance: instance.clone(),
        cost: request.cost.map_or(Ok(host.identity.default_hosting_cost), cost)?,
        precedence: precedence(&request.precedence)?.unwrap_or(host.identity.default_hosting_precedence),
        session: Some(host.tag),
        tags: BTreeMap::new(),
        created_at: now,
        updated_at: now,
    };
    let plan = match model.terminator(&id) {
        Some(old) => revised(old, wanted),
        None => {
            let of_session = model.terminators().filter(|t| t.session == Some(host.tag)).count();
            if of_session >= TERMINATORS_PER_SESSION_MAX {
                let message = format!("this session has {TERMINATORS_PER_SESSION_MAX} terminators already");
                return Err(Refused::new(Code::ResourceExhausted, "RESOURCES_NOT_AVAILABLE", message));
            }
            Plan::Create(Box::new(wanted))
        }
    };
    Ok(Bound { plan, rule })
}

/// The changed terminator; none when nothing changes.
///
/// # Errors
/// It is not this session's, or a value is not valid.
pub(crate) fn update(
    model: &Model,
    tag: Tag,
    request: &UpdateTerminatorRequest,
    now: OffsetDateTime,
) -> Result<Option<Terminator>, Refused> {
    let old = own_terminator(model, tag, &request.terminator_id)?;
    let address = request.address.as_ref().unwrap_or(&old.address);
    check_text("address", address, ADDRESS_MAX)?;
    let new = Terminator {
        cost: request.cost.map_or(Ok(old.cost), cost)?,
        precedence: precedence(&request.precedence)?.unwrap_or(old.precedence),
        address: address.clone(),
        ..old.clone()
    };
    Ok((new != *old).then_some(Terminator { updated_at: now, ..new }))
}

/// A terminator of this session.
///
/// # Errors
/// There is none with this id; another's is not told from a missing one.
pub(crate) fn own_terminator<'a>(model: &'a Model, tag: Tag, id: &str) -> Result<&'a Terminator, Refused> {
    let terminator = model.terminator(&TerminatorId::new(id)).filter(|t| t.session == Some(tag));
    terminator.map(AsRef::as_ref).ok_or_else(|| {
        let message = format!("this session has no terminator '{id}'");
        Refused::new(Code::NotFound, "INVALID_TERMINATOR", message)
    })
}

fn service<'a>(model: &'a Model, host: &Identity, asked: &str) -> Result<(&'a Service, Rule), Refused> {
    let refused = |rule: &Rule| no_such_service(asked, &host.name, "Bind").inner_rule(rule.to_string());
    let Some(service) = model.service_by_id_or_name(asked) else {
        return Err(refused(&Rule::UnknownService(asked.to_owned())));
    };
    let request = Request::Bind { identity: &host.id, service: &service.id };
    let decision = decide(model, &request, host, service);
    if decision.is_allowed() { Ok((service, decision.rule)) } else { Err(refused(&decision.rule)) }
}

fn revised(old: &Terminator, wanted: Terminator) -> Plan {
    let now = wanted.updated_at;
    let wanted = Terminator {
        created_at: old.created_at,
        updated_at: old.updated_at,
        tags: old.tags.clone(),
        ..wanted
    };
    if wanted == *old {
        return Plan::Keep(Box::new(wanted));
    }
    Plan::Update(Box::new(Terminator { updated_at: now, ..wanted }))
}

/// An instance belongs to the identity that has it as its name, or else to the one that hosts it: nobody else may answer dials
/// to it.
fn check_instance_owner(
    model: &Model,
    host: &Host<'_>,
    service: &Service,
    instance: &str,
) -> Result<(), Refused> {
    if instance == host.identity.name {
        return Ok(());
    }
    let of_another =
        |t: &Terminator| t.instance == instance && t.host_id != host.identity.id && t.session.is_some();
    let hosted = model.terminators_of(&service.id).any(|t| of_another(t));
    if !hosted && may_answer_to(model, host.identity, instance) {
        return Ok(());
    }
    let message = format!(
        "instance '{instance}' of service '{}' belongs to another identity: bind another one, or none to be reached by \
         the name '{}'",
        service.name, host.identity.name
    );
    Err(Refused::new(Code::AlreadyExists, "CONFLICT", message))
}

/// The same after every reconnect and restart, without a look at what is stored.
fn terminator_id(tag: Tag, service: &Service, instance: &str) -> TerminatorId {
    let mut digest = sha256_hex(format!("{tag}/{}/{instance}", service.id).as_bytes());
    digest.truncate(ID_DIGITS);
    TerminatorId::new(digest)
}

fn cost(cost: u32) -> Result<u16, Refused> {
    u16::try_from(cost).map_err(|_| invalid("cost", &cost.to_string(), "a cost is 0 to 65535"))
}

fn precedence(text: &str) -> Result<Option<Precedence>, Refused> {
    Ok(Some(match text {
        "" => return Ok(None),
        "required" => Precedence::Required,
        "default" => Precedence::Default,
        "failed" => Precedence::Failed,
        other => return Err(invalid("precedence", other, "a precedence is required, default or failed")),
    }))
}

fn check_text(field: &str, text: &str, max: usize) -> Result<(), Refused> {
    if text.len() <= max && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
    Err(invalid(field, &shown, &format!("it is at most {max} bytes without control characters")))
}

fn invalid(field: &str, value: &str, reason: &str) -> Refused {
    Refused::new(Code::InvalidArgument, "INVALID_FIELD", format!("{field} '{value}' is not valid: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::{identity, mesh, policy};
    use hesper_model::{entity::PolicyType, id::IdentityId};

    const TAG: Tag = Tag([2; 8]);
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn ask(service: &str, instance: &str) -> BindRequest {
        BindRequest { service: service.into(), instance: instance.into(), ..BindRequest::default() }
    }

    fn try_bind(model: &Model, who: &str, tag: Tag, request: &BindRequest) -> Result<Bound, Refused> {
        let identity = model.identity(&IdentityId::new(who)).expect("known");
        bind(model, &Host { identity, tag }, request, NOW)
    }

    fn created(model: &Model, request: &BindRequest) -> Terminator {
        match try_bind(model, "binder", TAG, request).expect("allowed").plan {
            Plan::Create(terminator) => *terminator,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bind_is_the_same_terminator_again() {
        let model = mesh().model(1);
        let t = created(&model, &ask("s-name", "i"));
        assert_eq!((t.session, t.host_id.as_str(), t.service_id.as_str()), (Some(TAG), "binder", "s"));
        assert_eq!(created(&model, &ask("s", "i")).id, t.id);
        assert_ne!(created(&model, &ask("s", "")).id, t.id);
        let mut with = mesh();
        with.0.terminators.push(t.clone());
        let model = with.model(2);
        let again = try_bind(&model, "binder", TAG, &ask("s", "i")).expect("allowed");
        assert_eq!(again.plan, Plan::Keep(Box::new(t.clone())));
        assert!(again.rule.to_string().contains("binder-Bind"));
        let dearer = BindRequest { cost: Some(7), precedence: "required".into(), ..ask("s", "i") };
        let Plan::Update(new) = try_bind(&model, "binder", TAG, &dearer).expect("allowed").plan else {
            panic!()
        };
        assert_eq!((new.id.clone(), new.cost, new.precedence), (t.id, 7, Precedence::Required));
    }

    #[test]
    fn bad_binds_are_refused_with_the_reason() {
        let mut foreign = mesh();
        foreign.0.service_policies.push(policy(PolicyType::Bind, "stranger"));
        foreign = foreign.hosted("t", "i", Some(Tag([9; 8])));
        for (who, request, code, text) in [
            ("stranger", ask("x", ""), "INVALID_SERVICE", "may bind"),
            ("dialer", ask("s", ""), "INVALID_SERVICE", "ask for a Bind service-policy"),
            ("binder", BindRequest { cost: Some(65_536), ..ask("s", "") }, "INVALID_FIELD", "0 to 65535"),
            ("binder", BindRequest { precedence: "high".into(), ..ask("s", "") }, "INVALID_FIELD", "'high'"),
            ("binder", ask("s", &"i".repeat(MAX_NAME_LEN + 1)), "INVALID_FIELD", "instance"),
            ("binder", BindRequest { address: "a\nb".into(), ..ask("s", "") }, "INVALID_FIELD", "address"),
            ("stranger", ask("s", "i"), "CONFLICT", "belongs to another identity"),
            ("binder", ask("s", "dialer-name"), "CONFLICT", "to be reached by the name 'binder-name'"),
            ("binder", ask("s", "Dialer-Name"), "CONFLICT", "belongs to another identity"),
        ] {
            let model = mesh_of(&foreign);
            let refused = try_bind(&model, who, TAG, &request).expect_err(text);
            assert!(refused.code == code && refused.message.contains(text), "{refused:?}");
        }
        assert!(
            try_bind(&mesh_of(&foreign), "binder", TAG, &ask("s", "i")).is_ok(),
            "its own second session may"
        );
    }

    fn mesh_of(mesh: &crate::control::testing::Mesh) -> Model {
        Model::build(1, mesh.0.clone())
    }

    #[test]
    fn a_bind_without_an_instance_is_reached_by_the_identitys_name() {
        let model = mesh().model(1);
        let (unnamed, named) = (created(&model, &ask("s", "")), created(&model, &ask("s", "binder-name")));
        assert_eq!((unnamed.instance.as_str(), named.instance.as_str()), ("binder-name", "binder-name"));
        assert_ne!(unnamed.id, named.id, "two binds of one program");
        let mut renamed = mesh();
        renamed.0.terminators.push(unnamed.clone());
        renamed
            .0
            .identities
            .iter_mut()
            .filter(|i| i.name == "binder-name")
            .for_each(|i| i.name = "new".into());
        let Plan::Update(new) =
            try_bind(&renamed.model(2), "binder", TAG, &ask("s", "")).expect("allowed").plan
        else {
            panic!("not updated")
        };
        assert_eq!((new.id, new.instance.as_str()), (unnamed.id, "new"));
    }

    #[test]
    fn a_name_is_its_owners_even_if_another_was_there_first() {
        let mut with = mesh().hosted("t", "stranger-name", Some(Tag([9; 8])));
        with.0.service_policies.push(policy(PolicyType::Bind, "stranger"));
        let model = with.model(1);
        assert!(try_bind(&model, "stranger", TAG, &ask("s", "")).is_ok());
        let again = try_bind(&model, "binder", Tag([9; 8]), &ask("s", "stranger-name"));
        assert_eq!(again.expect_err("not its own").code, "CONFLICT");
    }

    #[test]
    fn only_the_own_terminator_is_updated() {
        let model = mesh().hosted("t", "", Some(TAG)).model(1);
        let ask = |id: &str, cost| UpdateTerminatorRequest {
            terminator_id: id.into(),
            cost,
            precedence: String::new(),
            address: None,
        };
        assert_eq!(update(&model, TAG, &ask("t", None), NOW), Ok(None));
        let moved = UpdateTerminatorRequest { address: Some("tcp:elsewhere:1".into()), ..ask("t", None) };
        let moved = update(&model, TAG, &moved, NOW).expect("own").map(|t| t.address);
        assert_eq!(moved.as_deref(), Some("tcp:elsewhere:1"));
        assert_eq!(update(&model, TAG, &ask("t", Some(3)), NOW).expect("own").map(|t| t.cost), Some(3));
        let (foreign, missing) =
            (update(&model, Tag([7; 8]), &ask("t", None), NOW), update(&model, TAG, &ask("x", None), NOW));
        let texts = [foreign, missing].map(|r| r.expect_err("not its own").message.replace(['t', 'x'], "?"));
        assert_eq!(texts[0], texts[1]);
    }

    #[test]
    fn the_identitys_defaults_apply() {
        let mut with = mesh();
        with.0.identities = vec![identity("binder")];
        with.0.identities[0].default_hosting_cost = 5;
        with.0.identities[0].default_hosting_precedence = Precedence::Failed;
        let t = created(&with.model(1), &ask("s", ""));
        assert_eq!((t.cost, t.precedence), (5, Precedence::Failed));
    }
}
