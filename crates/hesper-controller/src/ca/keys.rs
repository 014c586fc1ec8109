//! The keys of the CAs: `pki/ca.key` of the first one, `pki/ca-<16 digits>/` of each later one. `pki/ca.pem` has the certificates of
//! all that are trusted, for whoever wants to give them to a client.

use hesper_pki::{
    ca::{CaError, CertificateAuthority},
    files::{self, FileError},
    rotation::{CaId, Rotation},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use time::OffsetDateTime;

/// Directories of later CAs.
const PREFIX: &str = "ca-";
/// Digits of the CA's SHA-256 in the name of its directory.
const DIGITS: usize = 16;

/// The CAs whose keys this controller holds.
pub(crate) struct Cas {
    pki: PathBuf,
    first: CaId,
    held: RwLock<BTreeMap<CaId, Arc<CertificateAuthority>>>,
}

/// A CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaKeyError {
    /// Not ours, or lost.
    #[error("the key of the CA {ca} is not in {}: restore that directory from a backup", pki.display())]
    Missing { ca: CaId, pki: PathBuf },
    /// It could not be made or read.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory could not be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

impl Cas {
    /// Reads what is there.
    ///
    /// # Errors
    /// A key cannot be read, or there is none.
    pub(crate) fn load(pki: &Path) -> Result<Self, CaKeyError> {
        let read = |source| CaKeyError::Read { path: pki.to_owned(), source };
        let mut held = BTreeMap::new();
        let first = match pki.join("ca.key").exists() {
            true => Some(CertificateAuthority::load(pki)?),
            false => None,
        };
        for entry in fs::read_dir(pki).map_err(read)? {
            let dir = entry.map_err(read)?.path();
            let is_ca = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
            // One without a certificate was being made when the controller was killed; the store does not know it.
            if is_ca && dir.join("ca.pem").exists() {
                let ca = CertificateAuthority::load(&dir)?;
                held.insert(ca.ca_sha256(), Arc::new(ca));
            }
        }
        let first = first.map(Arc::new).or_else(|| held.values().next().cloned());
        let first =
            first.ok_or_else(|| CaKeyError::Missing { ca: "of this network".into(), pki: pki.to_owned() })?;
        let id = first.ca_sha256();
        held.insert(id.clone(), first);
        Ok(Self { pki: pki.to_owned(), first: id, held: RwLock::new(held) })
    }

    /// The CA that counts while the store says nothing.
    pub(crate) fn first(&self) -> &CaId {
        &self.first
    }

    /// A CA.
    ///
    /// # Errors
    /// Its key is not here.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<CertificateAuthority>, CaKeyError> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(id).cloned().ok_or_else(|| CaKeyError::Missing { ca: id.to_owned(), pki: self.pki.clone() })
    }

    /// A new CA, on disk when this returns.
    ///
    /// # Errors
    /// It could not be made or written.
    pub(crate) fn make(
        &self,
        trust_domain: &str,
        now: OffsetDateTime,
    ) -> Result<Arc<CertificateAuthority>, CaKeyError> {
        let ca = Arc::new(CertificateAuthority::create(trust_domain, now)?);
        let id = ca.ca_sha256();
        ca.save(&self.dir(&id))?;
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(id, ca.clone());
        Ok(ca)
    }

    /// Brings the files in line with what the store says: every CA that it names must be here, every other is given up.
    ///
    /// # Errors
    /// A CA that counts is not here, or a file cannot be written.
    pub(crate) fn settle(&self, rotation: &Rotation) -> Result<(), CaKeyError> {
        let counting = rotation.trusted().map(|id| self.get(id)).collect::<Result<Vec<_>, _>>()?;
        let given_up: Vec<CaId> = {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            held.keys().filter(|id| !rotation.trusts(id)).cloned().collect()
        };
        for id in given_up {
            self.held.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            // Its key can do no harm, since nobody trusts it; still it should not lie about.
            let dir = self.dir(&id);
            let removed = match dir.exists() {
                true => fs::remove_dir_all(&dir),
                false => fs::remove_file(self.pki.join("ca.key")),
            };
            match removed {
                Ok(()) => tracing::info!(ca = id, "the key of a CA that is trusted no more is removed"),
                Err(error) => {
                    tracing::warn!(ca = id, %error, "the key of a CA that is trusted no more is still there");
                }
            }
        }
        let text: String = counting.iter().map(|ca| ca.ca_pem()).collect();
        let path = self.pki.join("ca.pem");
        match files::read(&path, 1 << 20) {
            Ok(there) if there == text => Ok(()),
            Ok(_) => Ok(files::replace(&path, text.as_bytes())?),
            Err(error) if error.not_found() => Ok(files::write_new(&path, text.as_bytes())?),
            Err(error) => Err(error.into()),
        }
    }

    fn dir(&self, id: &str) -> PathBuf {
        self.pki.join(format!("{PREFIX}{}", &id[..id.len().min(DIGITS)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_pki::rotation::{Out, Step};

    #[test]
    fn keys_are_kept_while_they_count_and_found_again_after_a_crash_at_any_point() {
        let dir = tempfile::tempdir().expect("directory");
        let (pki, now) = (dir.path().join("pki"), OffsetDateTime::now_utc());
        CertificateAuthority::create("mesh.test", now).expect("CA").save(&pki).expect("saved");
        let cas = Cas::load(&pki).expect("loads");
        let old = Rotation::standby(cas.first().clone());
        cas.settle(&old).expect("settles");
        let lost = cas.make("mesh.test", now).expect("made").ca_sha256();
        // Killed before the store named it: it is given up at the next start.
        let cas = Cas::load(&pki).expect("loads");
        assert!(cas.get(&lost).is_ok() && cas.first() == old.current());
        cas.settle(&old).expect("settles");
        assert!(cas.get(&lost).is_err() && !cas.dir(&lost).exists());

        let next = cas.make("mesh.test", now).expect("made").ca_sha256();
        let nobody = Out::default();
        let started = old.step(Step::Start(next.clone()), &nobody, false).expect("starts");
        // Killed after the store named it, before the files were settled.
        let cas = Cas::load(&pki).expect("loads");
        cas.settle(&started).expect("settles");
        let bundle = fs::read_to_string(pki.join("ca.pem")).expect("bundle");
        assert_eq!(bundle.matches("BEGIN").count(), 2);
        let cas = Cas::load(&pki).expect("loads with a bundle");
        let issuing = started.step(Step::Issue, &nobody, false).expect("issues");
        let done = issuing.step(Step::Finish, &nobody, false).expect("finishes");
        cas.settle(&done).expect("settles");
        assert!(!pki.join("ca.key").exists() && cas.get(old.current()).is_err());
        let cas = Cas::load(&pki).expect("loads without the first");
        assert_eq!(cas.first(), &next);
        let error = cas.settle(&old).expect_err("the old key is gone").to_string();
        assert!(error.contains("restore"), "{error}");
    }

    #[test]
    fn a_half_made_directory_is_no_ca() {
        let dir = tempfile::tempdir().expect("directory");
        let pki = dir.path().join("pki");
        let now = OffsetDateTime::now_utc();
        CertificateAuthority::create("mesh.test", now).expect("CA").save(&pki).expect("saved");
        fs::create_dir(pki.join("ca-0123")).expect("directory");
        fs::write(pki.join("ca-0123/ca.key"), "half").expect("file");
        assert!(Cas::load(&pki).is_ok());
        fs::remove_file(pki.join("ca.key")).expect("removed");
        assert!(Cas::load(&pki).is_err());
    }
}
