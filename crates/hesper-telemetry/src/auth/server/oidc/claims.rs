//! What a token must say, and what is known of the caller then.

use super::unauthenticated;
use crate::auth::AuthData;
use hesper_collector_config::extensions::OidcProvider;
use hesper_otlp::Refusal;
use jsonwebtoken::{DecodingKey, Header, Validation, decode, errors::ErrorKind};
use serde_json::{Map, Value};

/// Clocks of providers and receivers differ by up to so many seconds.
const LEEWAY_SECS: u64 = 60;
/// Claims that are kept, and bytes of each: they are written beside every batch. More are left out.
const MAX_CLAIMS: usize = 64;
const MAX_CLAIM: usize = 2048;

/// What a token says.
pub(super) type Claims = Map<String, Value>;

/// What tokens of one provider must say.
pub(super) struct Terms {
    issuer: String,
    /// None: for anybody.
    audience: Option<String>,
    username_claim: String,
    groups_claim: Option<String>,
}

impl Terms {
    pub(super) fn new(settings: &OidcProvider) -> Self {
        Self {
            issuer: settings.issuer_url.clone(),
            audience: (!settings.ignore_audience).then(|| settings.audience.clone()),
            username_claim: settings.username_claim.clone(),
            groups_claim: settings.groups_claim.clone(),
        }
    }

    /// The claims of a token that this key signed, that is valid now, and that is for us.
    pub(super) fn verify(&self, token: &str, header: &Header, key: &DecodingKey) -> Result<Claims, Refusal> {
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        let mut required = vec!["exp", "iss"];
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        let verified = decode::<Claims>(token, key, &validation);
        verified.map(|token| token.claims).map_err(|e| unauthenticated(self.explained(e.kind())))
    }

    fn explained(&self, fault: &ErrorKind) -> String {
        match fault {
            ErrorKind::ExpiredSignature => "the token has expired; get a new one".into(),
            ErrorKind::ImmatureSignature => "the token is not valid yet; are the clocks right?".into(),
            ErrorKind::InvalidAudience => {
                let audience = self.audience.as_deref().unwrap_or_default();
                format!("the token is for another audience than {audience:?}")
            }
            ErrorKind::MissingRequiredClaim(claim) => format!("the token has no claim '{claim}'"),
            ErrorKind::InvalidClaimFormat(claim) => {
                format!("the claim '{claim}' of the token makes no sense")
            }
            ErrorKind::InvalidSignature => "the signature of the token is wrong".into(),
            ErrorKind::Base64(_) | ErrorKind::Json(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => {
                "the token is no JWT".into()
            }
            _ => "the token cannot be verified with the keys of its provider".into(),
        }
    }

    /// What is known of the caller: `username` and `subject` (the same), `membership` (its groups), `claims.<name>`. Lists are one
    /// text with `;` between.
    pub(super) fn known(&self, claims: Claims) -> Result<AuthData, Refusal> {
        let missing =
            |claim: &str| unauthenticated(format!("the token has no claim '{claim}' that is a text"));
        let user = claims.get(&self.username_claim).and_then(Value::as_str);
        let user = user.ok_or_else(|| missing(&self.username_claim))?.to_owned();
        let mut known = AuthData::from([("username".into(), user.clone()), ("subject".into(), user)]);
        if let Some(name) = &self.groups_claim {
            let groups = claims.get(name).ok_or_else(|| missing(name))?;
            known.insert("membership".into(), text(groups));
        }
        let small = claims.iter().map(|(name, value)| (name, text(value)));
        let small = small.filter(|(name, value)| name.len() + value.len() <= MAX_CLAIM).take(MAX_CLAIMS);
        known.extend(small.map(|(name, value)| (format!("claims.{name}"), value)));
        Ok(known)
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(";"),
        other => other.to_string(),
    }
}
