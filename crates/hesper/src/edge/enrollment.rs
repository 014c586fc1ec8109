//! The enrollment in the answer to a create request, and its token, which is told only once.

use anyhow::{Result, bail};
use serde_json::Value;

/// Where an answer holds its enrollment: an identity's or a router's beside its id, an enrollment's own at the top.
pub(crate) fn enrollment(created: &Value) -> Option<&Value> {
    created.pointer("/data/enrollment").or_else(|| created.get("data"))
}

/// Takes the token out of the answer, so that what is printed afterwards does not hold it.
///
/// # Errors
/// There is none.
pub(crate) fn take_token(created: &mut Value) -> Result<String> {
    let place = if created.pointer("/data/enrollment").is_some() { "/data/enrollment" } else { "/data" };
    let object = created.pointer_mut(place).and_then(Value::as_object_mut);
    match object.and_then(|o| o.remove("jwt")) {
        Some(Value::String(jwt)) => Ok(jwt),
        _ => bail!("the controller's answer held no token"),
    }
}
