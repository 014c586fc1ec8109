//! `headers_setter`: headers out of the configuration, or out of the request that the data came with.

use super::credentials::secret;
use crate::{
    auth::{AuthError, ClientAuth, ClientAuthError},
    origin::Origin,
    watched::{INTERVAL, Watched, read},
};
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::{
    Secret,
    extensions::{HeaderAction, HeaderSource, HeadersSetter, SetHeader},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Sets headers, one action after the other.
pub(super) struct Setter {
    first: Option<Arc<dyn ClientAuth>>,
    actions: Vec<Action>,
}

struct Action {
    action: HeaderAction,
    header: HeaderName,
    source: Source,
}

enum Source {
    /// For `delete`.
    Nothing,
    Value(HeaderValue),
    File(Watched<HeaderValue>),
    /// What the authenticator of the receiver knows.
    Attribute {
        key: String,
        default: Option<HeaderValue>,
    },
    /// A header of the request that was received.
    Context {
        name: String,
        default: Option<HeaderValue>,
    },
}

impl Setter {
    pub(super) fn new(
        settings: &HeadersSetter,
        first: Option<Arc<dyn ClientAuth>>,
    ) -> Result<Self, AuthError> {
        let actions = settings.headers.iter().map(Action::new).collect::<Result<_, _>>()?;
        Ok(Self { first, actions })
    }
}

impl ClientAuth for Setter {
    /// It sets whatever headers; only who goes first can prove something.
    fn needs_secrecy(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.needs_secrecy())
    }

    fn apply<'a>(
        &'a self,
        headers: &'a mut HeaderMap,
        origin: &'a Origin,
    ) -> BoxFuture<'a, Result<(), ClientAuthError>> {
        async move {
            if let Some(first) = &self.first {
                first.apply(headers, origin).await?;
            }
            self.actions.iter().for_each(|action| action.apply(headers, origin));
            Ok(())
        }
        .boxed()
    }
}

impl Action {
    fn new(settings: &SetHeader) -> Result<Self, AuthError> {
        let key = &settings.key;
        let header = key.parse().map_err(|_| AuthError(format!("'{key}' is no name of a header")))?;
        let value =
            |text: &Secret| secret(text.expose()).map_err(|e| AuthError(format!("the value of {key}: {e}")));
        let default = |text: &Option<Secret>| text.as_ref().map(value).transpose();
        let source = match &settings.source {
            None => Source::Nothing,
            Some(HeaderSource::Value(text)) => Source::Value(value(text)?),
            Some(HeaderSource::File(path)) => Source::File(file(path)?),
            Some(HeaderSource::Attribute { key, default: text }) => {
                Source::Attribute { key: key.clone(), default: default(text)? }
            }
            Some(HeaderSource::Context { key, default: text }) => {
                Source::Context { name: key.to_ascii_lowercase(), default: default(text)? }
            }
        };
        Ok(Self { action: settings.action, header, source })
    }

    fn apply(&self, headers: &mut HeaderMap, origin: &Origin) {
        let there = headers.contains_key(&self.header);
        match self.action {
            HeaderAction::Delete => {
                headers.remove(&self.header);
                return;
            }
            HeaderAction::Insert if there => return,
            HeaderAction::Update if !there => return,
            HeaderAction::Upsert | HeaderAction::Insert | HeaderAction::Update => {}
        }
        // Without a value there is nothing to set: what is there stays.
        if let Some(value) = self.source.value(origin) {
            headers.insert(self.header.clone(), value);
        }
    }
}

impl Source {
    fn value(&self, origin: &Origin) -> Option<HeaderValue> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(value.clone()),
            Self::File(watched) => Some(watched.current().as_ref().clone()),
            Self::Attribute { key, default } => {
                let known = origin.auth.get(key).map(String::as_bytes);
                known.and_then(sensitive).or_else(|| default.clone())
            }
            Self::Context { name, default } => {
                // Several lines of one name are one list (RFC 9110 §5.3).
                let values: Vec<&[u8]> = origin
                    .metadata
                    .iter()
                    .filter(|(known, _)| known == name)
                    .map(|(_, value)| &**value)
                    .collect();
                let joined = (!values.is_empty()).then(|| values.join(&b", "[..]));
                joined.and_then(|bytes| sensitive(&bytes)).or_else(|| default.clone())
            }
        }
    }
}

/// None when no header can have it.
fn sensitive(bytes: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn file(path: &str) -> Result<Watched<HeaderValue>, AuthError> {
    let wanted = path.to_owned();
    let load = move || secret(read(Path::new(&wanted))?.trim()).map_err(|e| format!("{wanted}: {e}"));
    Ok(Watched::new(vec![PathBuf::from(path)], Some(INTERVAL), load)?)
}
