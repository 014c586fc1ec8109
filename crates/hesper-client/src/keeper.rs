//! The credentials of a running node or router: in memory, where every handshake reads them, and in its identity file.
//!
//! What it trusts is the controller's word on the watch ([`Trust`]), taken over at once. A renewal brings the certificates of CAs too,
//! but may have been answered before that word, so it only ever adds one.

use hesper_pki::{
    credentials::{Credentials, CredentialsError, SharedCredentials},
    digest::{hex, sha256_hex},
    identity_file::{IdentityFile, IdentityFileError},
    pem::{self, PemError},
};
use hesper_proto::control::{Trust, Trusting};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// CAs trusted at once. A rotation has two.
const MAX_CAS: usize = 8;

/// A handle on the credentials and the file that keeps them. Clones share both.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    credentials: SharedCredentials,
    /// Held while credentials are changed, so that memory and file go together.
    file: Mutex<(IdentityFile, Option<PathBuf>)>,
    /// The CA that issues, as the controller said last.
    issuing: watch::Sender<Option<String>>,
    trusting: watch::Sender<Trusting>,
}

/// Why the controller's word on CAs is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not certificates.
    #[error("the CA certificates that the controller names are not usable")]
    Pem(#[from] PemError),
    /// Nobody trusts so many.
    #[error("the controller names {0} CAs, more than {MAX_CAS}")]
    TooMany(usize),
    /// The issuing CA is not among them.
    #[error("the issuing CA is not among those that the controller names")]
    Issuer,
    /// They make no trust anchors.
    #[error("the CA certificates that the controller names are not usable")]
    Credentials(#[from] CredentialsError),
}

impl Keeper {
    /// Keeps these credentials; with a path, changes are written there.
    ///
    /// # Errors
    /// The identity file holds no usable credentials.
    pub fn new(identity: IdentityFile, path: Option<PathBuf>) -> Result<Self, IdentityFileError> {
        let credentials = identity.credentials()?;
        let trusting = watch::Sender::new(trusting(&credentials));
        Ok(Self(Arc::new(Inner {
            credentials: SharedCredentials::new(credentials),
            file: Mutex::new((identity, path)),
            issuing: watch::Sender::new(None),
            trusting,
        })))
    }

    /// The handle for handshakes.
    pub fn credentials(&self) -> &SharedCredentials {
        &self.0.credentials
    }

    /// What is trusted and used now, to be told to the controller after each change.
    pub fn trusting(&self) -> watch::Receiver<Trusting> {
        self.0.trusting.subscribe()
    }

    /// Takes over the controller's word on CAs. True when that changed something.
    ///
    /// # Errors
    /// [`TrustError`]; then nothing has changed.
    pub fn take(&self, trust: &Trust) -> Result<bool, TrustError> {
        let told = pem::certificates(&trust.ca_pem)?;
        if told.len() > MAX_CAS {
            return Err(TrustError::TooMany(told.len()));
        }
        let (told, issuer): (Vec<_>, _) =
            (told.iter().map(|ca| sha256_hex(ca)).collect(), hex(&trust.issuer_sha256));
        if !told.contains(&issuer) {
            return Err(TrustError::Issuer);
        }
        let file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.0.credentials.current();
        let changed = current.ca_sha256 != told;
        if changed {
            self.put(file, current.with_roots(&trust.ca_pem)?);
            tracing::info!(cas = told.len(), issuing = issuer, "the trusted CAs have changed");
        }
        self.0.issuing.send_if_modified(|now| now.replace(issuer.clone()).as_ref() != Some(&issuer));
        Ok(changed)
    }

    /// Takes over a renewed certificate.
    pub(crate) fn renewed(&self, fresh: &Credentials) -> Result<Arc<Credentials>, CredentialsError> {
        let file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.0.credentials.current();
        let known = fresh.issuer.as_ref().is_some_and(|issuer| current.ca_sha256.contains(issuer));
        let roots = if known { current.ca_pem.clone() } else { union(&current.ca_pem, &fresh.ca_pem) };
        self.put(file, fresh.with_roots(&roots)?);
        Ok(self.0.credentials.current())
    }

    /// The CA that issues, as the controller said last; none before it said anything.
    pub(crate) fn issuing(&self) -> Option<String> {
        self.0.issuing.borrow().clone()
    }

    /// Waits until a CA issues that is neither the own leaf's nor `answered`.
    pub(crate) async fn another_issues(&self, answered: Option<&str>) {
        let mut issuing = self.0.issuing.subscribe();
        let own = self.0.credentials.current().issuer.clone();
        let other = |told: &Option<String>| told.is_some() && *told != own && told.as_deref() != answered;
        if issuing.wait_for(other).await.is_err() {
            // The sender is in `self`.
            std::future::pending::<()>().await;
        }
    }

    fn put(&self, mut file: std::sync::MutexGuard<'_, (IdentityFile, Option<PathBuf>)>, fresh: Credentials) {
        let (identity, path) = &mut *file;
        *identity = identity.renewed(&fresh.chain_pem(), &fresh.ca_pem);
        let told = trusting(&fresh);
        self.0.credentials.replace(fresh);
        match path.as_ref().map(|path| (path, identity.replace(path))) {
            Some((path, Err(error))) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(path = %path.display(), error, "the new certificates are not kept: after a restart the old ones count");
            }
            // What is not on disk is not told: it would be gone after a restart.
            Some((_, Ok(()))) | None => drop(self.0.trusting.send_replace(told)),
        }
    }
}

fn trusting(credentials: &Credentials) -> Trusting {
    let bytes = |digest: &String| unhex(digest);
    Trusting {
        ca_sha256: credentials.ca_sha256.iter().map(bytes).collect(),
        issuer_sha256: credentials.issuer.as_ref().map(bytes).unwrap_or_default(),
    }
}

/// Of a digest that is known to be hexadecimal digits.
fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// Every certificate of either, once.
fn union(a: &str, b: &str) -> String {
    let all = [a, b].into_iter().filter_map(|text| pem::certificates(text).ok()).flatten();
    let mut seen = BTreeSet::new();
    let once: Vec<_> = all.filter(|ca| seen.insert(sha256_hex(ca))).collect();
    pem::encode_certificates(&once)
}
