//! `enroll`: a one-time token becomes an identity file.

use super::flags::UsageError;
use crate::enrollment_file;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Redeems a one-time token.
#[derive(Args, Debug)]
pub(crate) struct EnrollArgs {
    /// The file with the token
    #[arg(value_name = "JWT", required_unless_present = "jwt")]
    token: Option<PathBuf>,
    /// The file with the token
    #[arg(short = 'j', long, value_name = "JWT", conflicts_with = "token")]
    jwt: Option<PathBuf>,
    /// The identity file to write; it must not exist [default: the token's, with .json for .jwt]
    #[arg(short = 'o', long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The kind of key
    #[arg(
        short = 'a',
        long = "keyAlg",
        value_name = "ALGORITHM",
        value_enum,
        default_value = "EC",
        ignore_case = true
    )]
    key_algorithm: KeyAlgorithm,
    /// Kept for OpenZiti's scripts: the token file is always removed after success
    #[arg(long)]
    rm: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum KeyAlgorithm {
    /// P-256
    #[value(name = "EC")]
    Ec,
}

impl EnrollArgs {
    /// Enrolls.
    ///
    /// # Errors
    /// The token is not usable or was refused, or the identity file cannot be written.
    pub(crate) async fn run(self) -> Result<()> {
        let jwt = self.token.or(self.jwt).ok_or_else(|| UsageError("no token file".into()))?;
        let out = self.out.unwrap_or_else(|| identity_path(&jwt));
        enrollment_file::enroll(&jwt, &out, &|line| eprintln!("INFO    {line}")).await?;
        if let Err(e) = std::fs::remove_file(&jwt) {
            eprintln!("WARN    the used token {} could not be removed: {e}", jwt.display());
        }
        eprintln!("INFO    enrolled successfully. identity file written to: {}", out.display());
        Ok(())
    }
}

/// `x.jwt` → `x.json`; anything else gets `.json` behind it.
fn identity_path(jwt: &Path) -> PathBuf {
    if jwt.extension().is_some_and(|e| e.eq_ignore_ascii_case("jwt")) {
        return jwt.with_extension("json");
    }
    let mut name = jwt.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_file_stands_beside_the_token() {
        assert_eq!(identity_path(Path::new("/t/kube.id.jwt")), Path::new("/t/kube.id.json"));
        assert_eq!(identity_path(Path::new("token")), Path::new("token.json"));
    }
}
