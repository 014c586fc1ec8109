//! The tokens of `bearertokenauth`, on both sides.

use super::AuthError;
use crate::watched::{INTERVAL, Watched, read};
use hesper_collector_config::extensions::BearerTokenAuth;
use http::HeaderName;
use std::path::{Path, PathBuf};

/// What `make` makes of the tokens, now and whenever their file changes. The file, when there is one, counts before the tokens of
/// the configuration: one token a line, blank lines left out.
pub(super) fn watch<T>(
    settings: &BearerTokenAuth,
    make: impl Fn(&[String]) -> Result<T, String> + Send + Sync + 'static,
) -> Result<Watched<T>, AuthError> {
    let files = settings.filename.iter().map(PathBuf::from).collect();
    let settings = settings.clone();
    let load = move || match &settings.filename {
        None => make(&settings.tokens.iter().map(|token| token.expose().to_owned()).collect::<Vec<_>>()),
        Some(path) => {
            let text = read(Path::new(path))?;
            let tokens: Vec<String> =
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
            if tokens.is_empty() {
                return Err(format!("there is no token in {path}; write one a line"));
            }
            make(&tokens)
        }
    };
    Ok(Watched::new(files, Some(INTERVAL), load)?)
}

/// The header that tokens stand in.
pub(super) fn header(name: &str) -> Result<HeaderName, AuthError> {
    name.parse().map_err(|_| AuthError(format!("'{name}' is no name of a header")))
}
