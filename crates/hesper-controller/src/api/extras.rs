//! Routes that are no kind's: version, summary, hints, the policy advisor, health, metrics, the CA.

use super::{
    call::{Answer, Call, Reply},
    entities::page,
    error::ApiError,
    fields::exists,
    kinds::with_kind,
};
use crate::{state::State, trace};
use hesper_model::{
    entity::Kind,
    id::{EdgeRouterId, IdentityId, ServiceId, ServicePolicyId, TerminatorId},
};
use hesper_policy::{Advice, Model, advise, hints};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tracing::info_span;

/// `GET /version`
pub(crate) fn version(state: Arc<State>, _call: Call) -> Reply {
    Box::pin(async move {
        Ok(Answer::data(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "trustDomain": state.authority.trust_domain,
            "apiVersions": {
                "edge-management": { "v1": { "path": super::table::MANAGEMENT } },
                "edge-client": { "v1": { "path": super::table::CLIENT } },
            },
        })))
    })
}

/// `GET /summary`: how many entities of each kind.
pub(crate) fn summary(state: Arc<State>, _call: Call) -> Reply {
    Box::pin(async move {
        let model = state.model();
        let counts = Kind::ALL.map(|kind| (kind.plural().to_owned(), json!(count(&model, kind))));
        Ok(Answer::data(Value::Object(counts.into_iter().collect())))
    })
}

/// How many entities of a kind there are.
pub(crate) fn count(model: &Model, kind: Kind) -> usize {
    with_kind!(kind, E => model.table::<E>().len())
}

/// `GET /hints?service=<id>`, `?servicePolicy=<id>` or `?terminator=<id>`: what is still missing before the service can be dialed.
pub(crate) fn hint(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let model = state.model();
        let hint = match (call.query("service"), call.query("servicePolicy"), call.query("terminator")) {
            (Some(id), None, None) => {
                known(&model, Kind::Service, id)?;
                hints::after_create_service(&model, &ServiceId::new(id))
            }
            (None, Some(id), None) => {
                known(&model, Kind::ServicePolicy, id)?;
                hints::after_create_service_policy(&model, &ServicePolicyId::new(id))
            }
            (None, None, Some(id)) => {
                known(&model, Kind::Terminator, id)?;
                hints::after_create_terminator(&model, &TerminatorId::new(id))
            }
            _ => {
                let reason = "is required, or else servicePolicy or terminator";
                return Err(ApiError::field("service", Value::Null, reason));
            }
        };
        Ok(Answer::data(json!({ "hint": hint })))
    })
}

fn known(model: &Model, kind: Kind, id: &str) -> Result<(), ApiError> {
    if exists(model, kind, id) { Ok(()) } else { Err(ApiError::not_found(kind, id)) }
}

/// The fields of an [`Advice`] that a filter may name.
const ADVICE_FIELDS: [&str; 10] = [
    "identity",
    "service",
    "identityRouterCount",
    "serviceRouterCount",
    "commonRouters",
    "commonOnline",
    "isDialAllowed",
    "isBindAllowed",
    "faults",
    "text",
];

/// `GET /policy-advice?identity=<id>&service=<id>`: one pair, one side's pairs, or those of every identity. Each item also has
/// the advisor's own words in `text`.
pub(crate) fn advice(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let model = state.model();
        let online = |id: &EdgeRouterId| state.control.router_is_online(id);
        let (identity, service) = (call.query("identity"), call.query("service"));
        identity.map_or(Ok(()), |id| known(&model, Kind::Identity, id))?;
        service.map_or(Ok(()), |id| known(&model, Kind::Service, id))?;
        let span = info_span!("policy decide");
        let found: Vec<Advice> = span.in_scope(|| match (identity, service) {
            (Some(i), Some(s)) => {
                advise(&model, &online, &IdentityId::new(i), &ServiceId::new(s)).into_iter().collect()
            }
            (Some(i), None) => advise::advise_identity(&model, &online, &IdentityId::new(i)),
            (None, Some(s)) => advise::advise_service(&model, &online, &ServiceId::new(s)),
            (None, None) if call.query("by") == Some("service") => {
                model.services().flat_map(|s| advise::advise_service(&model, &online, &s.id)).collect()
            }
            (None, None) => {
                model.identities().flat_map(|i| advise::advise_identity(&model, &online, &i.id)).collect()
            }
        });
        if let [advice] = &*found {
            trace::decided(&span, advice.dial, advice);
        }
        let items = found.iter().map(|advice| {
            let mut value = serde_json::to_value(advice).unwrap_or(Value::Null);
            value["text"] = json!(advice.to_string());
            value
        });
        page(&call, items.collect(), &ADVICE_FIELDS)
    })
}

/// `GET /<kind>-role-attributes`: every attribute in use.
pub(crate) fn identity_attributes(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move { attributes(&call, state.model().identities().map(|e| &e.role_attributes)) })
}

/// As [`identity_attributes`].
pub(crate) fn service_attributes(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move { attributes(&call, state.model().services().map(|e| &e.role_attributes)) })
}

/// As [`identity_attributes`].
pub(crate) fn router_attributes(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move { attributes(&call, state.model().edge_routers().map(|e| &e.role_attributes)) })
}

fn attributes<'a>(call: &Call, of: impl Iterator<Item = &'a BTreeSet<String>>) -> Result<Answer, ApiError> {
    let all: BTreeSet<&String> = of.flatten().collect();
    // Items are objects for the filter, and plain texts in the answer.
    let answer =
        page(call, all.into_iter().map(|id| json!({ "id": id, "name": id })).collect(), &["id", "name"])?;
    Ok(answer.map_items(|item| item["name"].take()))
}

/// `GET /healthz`: well as long as the store answers.
pub(crate) fn healthz(state: Arc<State>, _call: Call) -> Reply {
    Box::pin(async move {
        let asked = tokio::time::timeout(std::time::Duration::from_secs(5), state.store.get("health"));
        match asked.await {
            Ok(Ok(_)) => Ok(Answer::plain("text/plain; charset=utf-8", "ok\n")),
            Ok(Err(_)) | Err(_) => Err(ApiError::new(
                http::StatusCode::SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                "the store does not answer",
            )),
        }
    })
}

/// `GET /metrics`: in OpenMetrics' or Prometheus' older text, as the scraper asks.
pub(crate) fn metrics(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        Ok(Answer::ready(hesper_observe::metrics::exposition(&call.headers, &state.metrics.registry)))
    })
}

/// `GET /.well-known/est/cacerts`: the certificates of the CA, PEM.
pub(crate) fn ca_certificates(state: Arc<State>, _call: Call) -> Reply {
    Box::pin(async move { Ok(Answer::plain("application/x-pem-file", state.ca_pem())) })
}
