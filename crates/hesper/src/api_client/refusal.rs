//! The text of a refusal: what was being done, and what the controller says is in the way.

use reqwest::StatusCode;
use serde_json::Value;

/// Longest value repeated in an error.
const MAX_VALUE_SHOWN: usize = 120;

/// What was being done, for the error text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// POST
    Creating,
    /// GET
    Listing,
    /// PATCH
    Updating,
    /// DELETE
    Deleting,
    /// POST authenticate
    LoggingIn,
    /// POST ca/rotate
    Rotating,
    /// POST certificates/SERIAL/revoke
    Revoking,
}

/// The code of a refusal; empty when it has none.
pub(super) fn code_of(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A refusal in OpenZiti's words: what was being done, the status, the code, and the field with its value and the reason.
pub(super) fn refusal(action: Action, path: &str, status: StatusCode, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    if action == Action::LoggingIn {
        let reason = text("/error/message").unwrap_or("no reason given");
        return format!("unable to authenticate. Status code: {status}: {reason}");
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            return "not authorized: your session is invalid or has expired, please run 'hesper edge login' again (401 Unauthorized)"
                .to_owned();
        }
        StatusCode::FORBIDDEN => {
            let reason = text("/error/message").unwrap_or("the identity you logged in as may not do this");
            return format!("not authorized: {reason} (403 Forbidden)");
        }
        _ => {}
    }
    let collection = path.split(['/', '?']).next().unwrap_or(path);
    let doing = match action {
        Action::Creating => format!("error creating {collection} instance"),
        Action::Listing => format!("error listing {collection}"),
        Action::Updating => format!("error updating {collection} instance"),
        Action::Deleting => format!("error deleting {collection} instance"),
        Action::Rotating => "error rotating the certificate authority".to_owned(),
        Action::Revoking => "error revoking a certificate".to_owned(),
        Action::LoggingIn => unreachable!("answered above"),
    };
    let code = text("/error/code").unwrap_or("UNKNOWN");
    let detail = match body.pointer("/error/cause") {
        Some(cause) if cause.get("field").is_some() => {
            let part = |name: &str| crate::output::cell(cause.get(name));
            let value = match shortened(&listed(cause.get("value"))) {
                none if none.is_empty() => none,
                value => format!(" [{value}]"),
            };
            format!("{}{value} {}", part("field"), part("reason"))
        }
        _ => text("/error/message").unwrap_or("the answer gave no reason").to_owned(),
    };
    format!("{doing}. Status code: {status}, {code} - {detail}")
}

/// A list without the brackets and quotes of JSON, anything else as it is.
fn listed(value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(list)) => {
            list.iter().map(|v| crate::output::cell(Some(v))).collect::<Vec<_>>().join(",")
        }
        other => crate::output::cell(other),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(action: Action, status: u16, body: &Value) -> String {
        let status = StatusCode::from_u16(status).expect("a status");
        refusal(action, "identities/x", status, body.to_string().as_bytes())
    }

    #[test]
    fn refusals_name_the_field_the_value_and_the_reason() {
        let body = json!({"error": {"code": "INVALID_FIELD", "message": "name is taken",
            "cause": {"field": "name", "value": "x", "reason": "is taken"}}});
        assert_eq!(
            text(Action::Creating, 400, &body),
            "error creating identities instance. Status code: 400 Bad Request, INVALID_FIELD - name [x] is taken"
        );
        let body = json!({"error": {"code": "INVALID_FIELD", "message": "no",
            "cause": {"field": "serviceRoles", "value": ["a", "#b"], "reason": "are wrong"}}});
        assert!(text(Action::Updating, 400, &body).ends_with("serviceRoles [a,#b] are wrong"));
        let body = json!({"error": {"code": "CONFLICT", "message": "used by service s"}});
        assert_eq!(
            text(Action::Deleting, 409, &body),
            "error deleting identities instance. Status code: 409 Conflict, CONFLICT - used by service s"
        );
    }

    #[test]
    fn an_expired_session_says_what_to_do() {
        assert_eq!(
            text(Action::Listing, 401, &Value::Null),
            "not authorized: your session is invalid or has expired, please run 'hesper edge login' again (401 Unauthorized)"
        );
        assert!(
            text(Action::LoggingIn, 401, &json!({"error": {"message": "wrong"}}))
                .ends_with("401 Unauthorized: wrong")
        );
    }

    #[test]
    fn answers_that_are_no_json_still_give_the_status() {
        let text = refusal(Action::Listing, "services", StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(
            text,
            "error listing services. Status code: 502 Bad Gateway, UNKNOWN - the answer gave no reason"
        );
    }
}
