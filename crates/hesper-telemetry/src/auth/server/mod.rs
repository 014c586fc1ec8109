//! Authenticators of receivers: `basicauth`, `bearertokenauth`, `oidc`.

mod basic;
mod bearer;
mod oidc;

use super::{AuthError, Authenticator};
use hesper_collector_config::{Extension, extensions::BasicAuth};
use hesper_otlp::Refusal;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

/// Are the credentials themselves, as they came, part of what is known of a caller (`raw`)? What is known is written into queues
/// and shown to processors, so they should be only when the configuration asks for them (`auth.raw`, `from_attribute: raw`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Raw {
    /// They are forgotten when they were checked.
    #[default]
    Forget,
    /// They are kept as `raw`.
    Keep,
}

/// The authenticator that an extension describes.
///
/// # Errors
/// A file of it cannot be used, or the extension is none that checks callers.
pub fn build(extension: &Extension, raw: Raw) -> Result<Arc<dyn Authenticator>, AuthError> {
    Ok(match extension {
        Extension::BasicAuth(BasicAuth::Server(settings)) => Arc::new(basic::Basic::new(settings, raw)?),
        Extension::BearerTokenAuth(settings) => Arc::new(bearer::Bearer::new(settings)?),
        Extension::Oidc(settings) => Arc::new(oidc::Oidc::new(settings, raw)?),
        _ => return Err(AuthError("this extension does not check callers".into())),
    })
}

fn unauthenticated(reason: impl Into<String>) -> Refusal {
    Refusal::Unauthenticated(reason.into())
}

/// What stands behind the scheme in a header (RFC 9110 §11.4); the scheme may be written in any case.
fn credentials<'a>(headers: &'a HeaderMap, name: &HeaderName, scheme: &str) -> Result<&'a str, Refusal> {
    let missing = || unauthenticated(format!("there are no credentials: send the header {name}: {scheme} …"));
    let value = headers.get(name).ok_or_else(missing)?;
    let value = value.to_str().map_err(|_| unauthenticated(format!("the header {name} is not ASCII")))?;
    let split = value.split_at_checked(scheme.len()).filter(|(found, _)| found.eq_ignore_ascii_case(scheme));
    match split.map(|(_, rest)| rest) {
        Some(rest) if scheme.is_empty() => Ok(rest),
        Some(rest) if rest.starts_with(' ') => Ok(rest.trim_start_matches(' ')),
        _ => Err(unauthenticated(format!("the header {name} does not begin with '{scheme} '"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, header::AUTHORIZATION};

    #[test]
    fn the_scheme_is_taken_in_any_case_and_nothing_else() {
        for (value, scheme, expected) in [
            ("Basic abc", "Basic", Some("abc")),
            ("bASIC   abc", "Basic", Some("abc")),
            ("Basicabc", "Basic", None),
            ("Basic", "Basic", None),
            ("Bearer abc", "Basic", None),
            ("", "Basic", None),
            ("abc", "", Some("abc")),
            (" abc", "", Some(" abc")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).expect(value));
            assert_eq!(credentials(&headers, &AUTHORIZATION, scheme).ok(), expected, "{value}");
        }
        let error = credentials(&HeaderMap::new(), &AUTHORIZATION, "Basic").expect_err("none");
        assert!(matches!(error, Refusal::Unauthenticated(text) if text.contains("authorization: Basic")));
    }
}
