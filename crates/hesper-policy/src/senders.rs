//! What a dialer may send to a service that has an `otlp.v1` config.

use crate::{Model, decide, rule::Rule};
use hesper_model::{
    config::{OtlpV1, otlp::SenderTerms},
    entity::{Config, Service},
    id::{ConfigId, IdentityId, ServiceId},
};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};

/// Every `otlp.v1` config, read. One that cannot be read keeps its reason: nobody may send by it.
pub(crate) type Senders = HashMap<ConfigId, Result<OtlpV1, String>>;

/// Reads them.
pub(crate) fn read<'a>(configs: impl Iterator<Item = &'a Arc<Config>>) -> Senders {
    let of_type = configs.filter(|config| config.config_type_id.as_str() == OtlpV1::NAME);
    let read = |config: &Config| OtlpV1::deserialize(&config.data).map_err(|error| error.to_string());
    of_type.map(|config| (config.id.clone(), read(config))).collect()
}

/// The terms of this dialer for this service; none when the service has no `otlp.v1` config.
///
/// # Errors
/// There are terms, but they cannot be given to it: the config cannot be read, or says more for this identity than fits a grant.
pub fn sender_terms(
    model: &Model,
    identity: &IdentityId,
    service: &ServiceId,
) -> Result<Option<Arc<SenderTerms>>, Rule> {
    let identity = decide::known_identity(model, identity)?;
    let service = decide::known_service(model, service)?;
    let Some((config, otlp)) = config_of(model, service) else { return Ok(None) };
    let unusable = |reason: String| Rule::UnusableSenderTerms {
        config: config.name.clone(),
        service: service.name.clone(),
        identity: identity.name.clone(),
        reason,
    };
    let otlp = otlp.as_ref().map_err(|reason| unusable(reason.clone()))?;
    let terms = SenderTerms::resolve((&config.name, otlp), service, identity);
    terms.map(|terms| Some(Arc::new(terms))).map_err(|error| unusable(error.to_string()))
}

/// The service's config, as stored and as read.
pub(crate) fn config_of<'a>(
    model: &'a Model,
    service: &Service,
) -> Option<(&'a Arc<Config>, &'a Result<OtlpV1, String>)> {
    if service.configs.is_empty() {
        return None;
    }
    let senders = model.senders();
    service.configs.iter().find_map(|id| Some((model.config(id)?, senders.get(id)?)))
}
