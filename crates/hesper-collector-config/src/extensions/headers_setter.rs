//! `headers_setter`: headers of requests that are sent, from the configuration or from the request that was received.

use crate::{Id, Secret, common::check_header, credential, reader::Wanted, section::Section};

/// What to do with which headers, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersSetter {
    /// The actions.
    pub headers: Vec<SetHeader>,
    /// An authenticator that goes first.
    pub additional_auth: Option<Id>,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetHeader {
    /// What is done.
    pub action: HeaderAction,
    /// The header.
    pub key: String,
    /// What it gets; None for `delete`.
    pub source: Option<HeaderSource>,
}

/// What is done with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// Set it, whether it is there or not.
    Upsert,
    /// Set it when it is not there.
    Insert,
    /// Set it when it is there.
    Update,
    /// Take it away.
    Delete,
}

/// Where the value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderSource {
    /// `value`
    Value(Secret),
    /// `value_file`: read again when it changes.
    File(String),
    /// `from_attribute`: what the authenticator of the receiver knows of the sender (`username`, `claims.…`).
    Attribute {
        /// Its name.
        key: String,
        /// What stands in when it is not there.
        default: Option<Secret>,
    },
    /// `from_context`: a header of the request that was received.
    Context {
        /// Its name.
        key: String,
        /// What stands in when it is not there.
        default: Option<Secret>,
    },
}

pub(crate) fn read(s: &Section<'_>) -> HeadersSetter {
    let headers = s.sections("headers", header);
    if headers.is_empty() && !s.is_set("headers") {
        s.fault(
            s.place_of("headers"),
            format!("{} sets nothing", s.what),
            "add headers: [{key: …, value: …}]",
        );
    }
    HeadersSetter { headers, additional_auth: s.reference("additional_auth", Wanted::ClientAuth) }
}

fn header(s: &Section<'_>) -> SetHeader {
    let words = [
        ("upsert", HeaderAction::Upsert),
        ("insert", HeaderAction::Insert),
        ("update", HeaderAction::Update),
        ("delete", HeaderAction::Delete),
    ];
    let action = s.one_of("action", &words, HeaderAction::Upsert);
    let key = s.needed("key", "write the name of the header");
    let value = s.secret("value");
    if let Some(value) = &value {
        check_header(s, "value", if key.is_empty() { "x" } else { &key }, value);
        credential::check(s, "value", value.expose());
    }
    let default = s.secret("default_value");
    let sources: Vec<HeaderSource> = [
        value.map(HeaderSource::Value),
        s.text("value_file").map(HeaderSource::File),
        s.text("from_attribute").map(|key| HeaderSource::Attribute { key, default: default.clone() }),
        s.text("from_context").map(|key| HeaderSource::Context { key, default }),
    ]
    .into_iter()
    .flatten()
    .collect();
    match (sources.len(), action) {
        (0, HeaderAction::Delete) | (1, _) => {}
        (0, _) => s.fault(
            &s.place,
            format!("{} gives '{key}' no value", s.what),
            "add value, from_context or from_attribute",
        ),
        _ => s.fault(&s.place, format!("{} gives '{key}' two values", s.what), "keep one of them"),
    }
    SetHeader { action, key, source: sources.into_iter().next() }
}
