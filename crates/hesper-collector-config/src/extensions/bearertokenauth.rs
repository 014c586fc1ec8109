//! `bearertokenauth`: a token in a header, of callers and ours.

use crate::{Secret, credential, section::Section};

/// The tokens and how they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BearerTokenAuth {
    /// The header (`Authorization`).
    pub header: String,
    /// What stands before the token (`Bearer`); empty for the token alone.
    pub scheme: String,
    /// `token` and `tokens`. A client sends the first one; a server takes any.
    pub tokens: Vec<Secret>,
    /// A file with one token per line, read again when it changes; it counts before the inline ones.
    pub filename: Option<String>,
}

pub(crate) fn read(s: &Section<'_>) -> BearerTokenAuth {
    let mut tokens: Vec<Secret> = s.secret("token").into_iter().collect();
    let listed = s.scalars("tokens");
    if !tokens.is_empty() && !listed.is_empty() {
        s.refuse("tokens", "given besides token", "keep one of them");
    }
    tokens.extend(listed.into_iter().map(|scalar| Secret::new(scalar.text.text.clone())));
    let auth = BearerTokenAuth {
        header: s.text_or("header", "Authorization"),
        scheme: s.text_or("scheme", "Bearer"),
        tokens,
        filename: s.text("filename"),
    };
    if auth.filename.is_none() && !s.is_set("token") && !s.is_set("tokens") {
        s.fault(&s.place, format!("{} has no token", s.what), "add token, tokens or filename");
    }
    for token in &auth.tokens {
        let key = if s.is_set("token") { "token" } else { "tokens" };
        if token.expose().is_empty() {
            s.refuse(key, "an empty token lets everybody in", "write the token");
        }
        credential::check(s, key, token.expose());
    }
    auth
}
