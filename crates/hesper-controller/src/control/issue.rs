//! From a decided dial to its two tokens.

use super::{
    dial::Route,
    grants::{Full, Grant, Reach, judge},
    refusal::{Refused, no_such_service},
    renew::internal,
    unix_now,
};
use crate::state::State;
use hesper_model::id::{Tag, TerminatorId};
use hesper_pki::{
    digest::hex,
    token::{GrantClaims, PassClaims},
};
use hesper_policy::Model;
use hesper_proto::control::{DialResponse, Path, Share};
use rand::Rng;
use tonic::Code;
use tracing::info_span;

/// Who gets the tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient<'a> {
    /// Its session.
    pub(super) tag: Tag,
    /// SHA-256 of its SubjectPublicKeyInfo: the tokens are good for this key only.
    pub(super) spki_sha256: &'a str,
    /// Its name now.
    pub(super) name: &'a str,
}

/// Grant and pass for a route that was decided with `model`. They are in the ledger before they are given out, and if the
/// model has changed meanwhile the route is decided again: a change is met either here or by the ledger.
///
/// # Errors
/// The ledger is full, or the route is not allowed any more.
pub(super) fn issue(
    state: &State,
    model: &Model,
    route: &Route,
    to: Recipient<'_>,
) -> Result<DialResponse, Refused> {
    let span = info_span!("grant issue", mesh.service.name = route.service);
    let issued = span.in_scope(|| put_out(state, model, route, to));
    if let Ok(grant) = issued.as_ref()
        && !span.is_disabled()
    {
        hesper_trace::set(&span, "mesh.grant.id", grant.grant_id.clone());
        hesper_trace::set(&span, "mesh.terminator.id", grant.terminator_id.clone());
        let routers = grant.paths.iter().flat_map(|path| path.router_ids.iter().cloned());
        hesper_trace::set_list(&span, "mesh.router.ids", routers);
    }
    issued
}

fn put_out(state: &State, model: &Model, route: &Route, to: Recipient<'_>) -> Result<DialResponse, Refused> {
    let iat = unix_now();
    let exp = iat + state.control.settings.grant_validity.as_secs();
    let id = hex(&rand::rng().random::<[u8; 16]>());
    let dialer_name = model.identity(&route.pair.dialer).map_or(to.name, |identity| &identity.name);
    let tokens = sign(state, route, Recipient { name: dialer_name, ..to }, &id, (iat, exp))?;
    let grant = Grant {
        id: id.clone(),
        pair: route.pair.clone(),
        terminator: route.terminator.clone(),
        dialer_tag: to.tag,
        binder_tag: route.binder_tag,
        reach: Reach::Paths { paths: route.paths.clone(), told: route.told },
        terms: route.terms.clone(),
        expires_at: exp,
    };
    state.control.change(|shared| shared.ledger.issue(grant)).map_err(|full| match full {
        Full::OfDialer | Full::InTotal => {
            Refused::new(Code::ResourceExhausted, "RESOURCES_NOT_AVAILABLE", full.to_string())
        }
    })?;
    let now = state.model();
    if now.revision() != model.revision() {
        let given = judge(&now, &route.pair).map_err(|rule| rule.to_string());
        if given.as_ref().is_ok_and(|given| given.terms != route.terms) {
            state.control.change(|shared| shared.ledger.withdraw(&id));
            let message = format!("what may be sent to service '{}' changed meanwhile", route.service);
            return Err(Refused::new(Code::Unavailable, "TERMS_CHANGED", message).passing());
        }
        let live = state.control.lock().ledger.is_live(&id);
        if given.is_err() || !live {
            state.control.change(|shared| shared.ledger.withdraw(&id));
            let rule = given.err().unwrap_or_else(|| "a policy changed meanwhile".to_owned());
            return Err(no_such_service(&route.service, to.name, "Dial").inner_rule(rule));
        }
    }
    let (grant, pass) = tokens;
    Ok(DialResponse {
        grant,
        pass,
        grant_id: id,
        expires_at: exp,
        service_id: route.pair.service.to_string(),
        terminator_id: route.terminator.to_string(),
        binder_id: route.pair.binder.to_string(),
        binder_tag: route.binder_tag.0.to_vec(),
        paths: route.paths.iter().take(route.told).map(message).collect(),
        narrowed: route.narrowed,
        shares: route.shares.iter().map(|(id, weight)| share(id, *weight)).collect(),
    })
}

fn share(id: &TerminatorId, weight: u32) -> Share {
    Share { terminator_id: id.to_string(), weight }
}

fn message(path: &super::paths::Path) -> Path {
    Path { router_ids: path.iter().map(ToString::to_string).collect() }
}

fn sign(
    state: &State,
    route: &Route,
    to: Recipient<'_>,
    id: &str,
    (iat, exp): (u64, u64),
) -> Result<(String, String), Refused> {
    let grant = GrantClaims {
        jti: id.to_owned(),
        sub: route.pair.dialer.clone(),
        aud: route.pair.binder.clone(),
        service: route.pair.service.clone(),
        terminator: route.terminator.clone(),
        tag: to.tag,
        cnf: to.spki_sha256.to_owned(),
        dialer_name: to.name.to_owned(),
        otlp: route.terms.as_deref().cloned(),
        iat,
        exp,
    };
    let pass = PassClaims {
        jti: id.to_owned(),
        a: to.tag,
        b: route.binder_tag,
        paths: route.paths.clone(),
        cnf: to.spki_sha256.to_owned(),
        iat,
        exp,
    };
    let signer = &state.authority.signer;
    let sign = || Ok((signer.sign(&grant)?, signer.sign(&pass)?));
    sign().map_err(|error: hesper_pki::token::SignerError| internal(&error))
}
