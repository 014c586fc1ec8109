//! From a token file to an identity file, so that an interruption loses neither.
//!
//! The private key is kept beside the identity file to be (`OUT.key.pending`, 0600) until that is written: when the
//! controller's answer is lost, the same command redeems the same token again with the same key and gets its certificate.
//! It stays through any failure after that (the controller is still down, the disk is full) until the controller has spoken.

use anyhow::{Context, Result, bail};
use hesper_client::enroll::{Enrolled, check_token, enroll_with_key};
use hesper_pki::{
    files,
    key::{self, PrivateKey},
    token::EnrollmentMethod,
};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Largest token or key file read.
const MAX_FILE: u64 = 64 * 1024;

/// Redeems the token in `jwt` and writes the identity file `out`, which must not exist. `told` gets a line of progress.
///
/// # Errors
/// `out` exists or cannot be written, the token is no identity's, or it was refused.
pub(crate) async fn enroll(jwt: &Path, out: &Path, told: &dyn Fn(&str)) -> Result<Enrolled> {
    if out.symlink_metadata().is_ok() {
        bail!(
            "{} exists already and is not overwritten: remove it or choose another file with --out",
            out.display()
        );
    }
    let now = OffsetDateTime::now_utc();
    let token = files::read(jwt, MAX_FILE)?;
    check(token.trim(), now).await.with_context(|| format!("cannot enroll with {}", jwt.display()))?;
    let pending = pending_key(out);
    let (key, new) = key(&pending, told)?;
    let enrolled = match enroll_with_key(token.trim(), key, now).await {
        Ok(enrolled) => enrolled,
        Err(e) => {
            if e.key_fate().is_over(new) {
                let _ = std::fs::remove_file(&pending);
            }
            return Err(e).with_context(|| format!("cannot enroll with {}", jwt.display()));
        }
    };
    enrolled.identity_file.write_new(out)?;
    let _ = std::fs::remove_file(&pending);
    Ok(enrolled)
}

/// Refuses what cannot become an identity before a key is made for it. The token of a router would be used up for nothing.
async fn check(token: &str, now: OffsetDateTime) -> Result<()> {
    if check_token(token, now).await?.em == EnrollmentMethod::Erott {
        bail!("it is the token of an edge router: use 'hesper router enroll'")
    }
    Ok(())
}

fn pending_key(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".key.pending");
    name.into()
}

/// The key of an interrupted enrollment, or a new one, kept before it is used; and whether it is new.
fn key(pending: &Path, told: &dyn Fn(&str)) -> Result<(PrivateKey, bool)> {
    match files::read(pending, MAX_FILE) {
        Ok(pem) => {
            let key = PrivateKey::from_pem(&pem)
                .with_context(|| format!("{} holds no key: remove it and try again", pending.display()))?;
            Ok((key, false))
        }
        Err(e) if e.not_found() => {
            let key = key::generate()?;
            files::write_new(pending, key.to_pem().as_bytes())?;
            told("generating P-256 key");
            Ok((key, true))
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_bad_token_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let (jwt, out) = (dir.path().join("n.jwt"), dir.path().join("n.json"));
        std::fs::write(&jwt, "not.a.token").expect("written");
        let error = enroll(&jwt, &out, &|_| ()).await.expect_err("refused");
        assert!(format!("{error:#}").contains("n.jwt"), "{error:#}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
        assert!(jwt.exists());
    }

    #[tokio::test]
    async fn an_identity_file_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let (jwt, out) = (dir.path().join("n.jwt"), dir.path().join("n.json"));
        std::fs::write(&out, "kept").expect("written");
        let error = enroll(&jwt, &out, &|_| ()).await.expect_err("refused").to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(std::fs::read(&out).expect("there"), b"kept");
    }

    #[test]
    fn an_interrupted_enrollment_keeps_its_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let pending = pending_key(&dir.path().join("n.json"));
        assert!(pending.ends_with("n.json.key.pending"));
        let (first, new) = key(&pending, &|_| ()).expect("made");
        assert!(new);
        let (second, new) = key(&pending, &|_| ()).expect("found");
        assert_eq!((second.spki_sha256(), new), (first.spki_sha256(), false));
        assert_eq!(std::fs::metadata(&pending).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
