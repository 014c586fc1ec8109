//! Headers that are sent along, and what else of a request may be secret.

use crate::{Auth, Endpoint, Secret, remark::Topic, section::Section, tree::Body};

/// Names and values in the order of the file; values are secret, since tokens travel in them.
pub type Headers = Vec<(String, Secret)>;

/// Reads headers: a mapping, or a list of `{name, value}`.
pub(crate) fn headers(s: &Section<'_>, key: &'static str) -> Headers {
    let listed = s.get(key).is_some_and(|tree| matches!(tree.structure().body, Body::List(_)));
    let pairs: Headers = if listed {
        s.sections(key, |s| {
            let name = s.needed("name", "write {name: NAME, value: VALUE}");
            (name, s.secret("value").unwrap_or_else(|| Secret::new("")))
        })
    } else {
        s.named(key).into_iter().map(|(name, v)| (name, Secret::new(v.text.text.clone()))).collect()
    };
    for (name, value) in &pairs {
        check(s, key, name, value);
    }
    pairs
}

/// A header as HTTP allows it (RFC 9110, 5.1 and 5.5).
pub(crate) fn check(s: &Section<'_>, key: &'static str, name: &str, value: &Secret) {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) {
        s.refuse(
            key,
            format_args!("'{}' is no name of a header", name.escape_debug()),
            "letters, digits and -",
        );
    }
    if value.expose().chars().any(|c| c.is_control() && c != '\t') {
        let reason = format_args!("the value of '{name}' has a line break or another control character");
        s.refuse(key, reason, "a block behind | ends with a line break, one behind |- does not");
    }
}

/// Tells of credentials that anybody on the way can read. `plain`: there is no TLS.
pub(crate) fn check_url(
    s: &Section<'_>,
    key: &'static str,
    endpoint: &Endpoint,
    plain: bool,
    auth: Option<&Auth>,
    headers: &Headers,
) {
    let Endpoint::Underlay(address) = endpoint else { return };
    let telling = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["auth", "token", "key", "cookie", "secret"].iter().any(|word| name.contains(word))
    };
    let what = if auth.is_some() {
        "the credentials of its authenticator"
    } else if headers.iter().any(|(name, _)| telling(name)) {
        "what its headers say"
    } else if address.user_info.is_some() {
        "the password in its URL"
    } else {
        return;
    };
    if plain && !address.is_loopback() {
        let reason = format!("{}: {what} can be read by anybody on the way, there is no TLS", s.what);
        let next = "use TLS, or send to hesper://SERVICE, which is encrypted by itself";
        s.remark(Topic::Insecure, key, reason, next);
    }
}
