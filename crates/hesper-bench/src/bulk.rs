//! Identities by the thousand, without a thousand enrollments.
//!
//! One identity is enrolled as anybody would. Then, while the controller is stopped, what it left in the store is copied under new
//! ids, names and serials, and each copy gets a certificate of its own, for a key of its own, signed by the network's CA. To
//! controller, router and nodes these are identities like any other; only the way in was shorter.

use crate::stack::Stack;
use anyhow::{Context, Result};
use hesper_model::id::IdentityId;
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    identity_file::IdentityFile,
    key,
    spiffe::{SpiffeId, SpiffeRole},
};
use hesper_store::{Commit, Object, Store, Txn, open_sqlite};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Copies made by one transaction: three objects each, far below what the store takes.
const BATCH: usize = 250;
/// Longer than any measurement: nobody renews meanwhile.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);

/// What one enrolled identity left in the store.
struct Template {
    id: String,
    serial: String,
    identity: Value,
    certificate: Value,
}

/// Adds `count` identities `PREFIX-0`, …; they have this role attribute. The controller is restarted.
pub(crate) async fn identities(
    stack: &mut Stack,
    prefix: &str,
    attribute: &str,
    count: usize,
) -> Result<Vec<IdentityFile>> {
    let enrolled = IdentityFile::load(Path::new(&stack.enroll(&format!("{prefix}-template"))?))?;
    if let Some(controller) = stack.controller.take() {
        controller.terminate().await?;
    }
    let home = stack.path("controller");
    let home = Path::new(&home);
    let authority = CertificateAuthority::load(&home.join("pki"))?;
    let store = open_sqlite(home.join("hesper.db"))?;
    let template = Template::find(&*store, &enrolled).await?;
    let mut files = Vec::with_capacity(count);
    for first in (0..count).step_by(BATCH) {
        let mut txn = Txn::new();
        for n in first..count.min(first + BATCH) {
            let (file, more) = template.copy(
                &authority,
                &stack.controller_url(),
                &format!("{prefix}-{n}"),
                attribute,
                txn,
            )?;
            files.push(file);
            txn = more;
        }
        if let Commit::Conflict(key) = store.commit(txn).await? {
            anyhow::bail!("{key} exists already");
        }
    }
    store.close().await;
    stack.start_controller().await?;
    Ok(files)
}

impl Template {
    async fn find(store: &dyn Store, enrolled: &IdentityFile) -> Result<Self> {
        let id = enrolled.credentials()?.id.id.clone();
        let identity =
            store.get(&format!("identity/{id}")).await?.context("the identity is not in the store")?;
        let named = |object: &Object| {
            let record: Value = serde_json::from_slice(&object.value).ok()?;
            let subject = record["subject"].as_str()?;
            subject.ends_with(&format!("/{id}")).then_some(record)
        };
        let certificates = store.list("certificate/").await?;
        let (key, certificate) = certificates
            .iter()
            .find_map(|object| Some((object.key.clone(), named(object)?)))
            .context("its certificate is not in the store")?;
        let serial = key.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self { id, serial, identity: serde_json::from_slice(&identity.value)?, certificate })
    }

    fn copy(
        &self,
        authority: &CertificateAuthority,
        controller: &str,
        name: &str,
        attribute: &str,
        txn: Txn,
    ) -> Result<(IdentityFile, Txn)> {
        let id = IdentityId::random(&mut rand::rng()).to_string();
        let key = key::generate()?;
        let subject = SpiffeId::new(authority.trust_domain(), SpiffeRole::Identity, &id)?;
        let request = IssueRequest {
            subject: subject.clone(),
            spki_der: key.spki_der().to_vec(),
            validity: VALIDITY,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
        };
        let issued = authority.issue(&request, OffsetDateTime::now_utc())?;
        let mut identity = self.identity.clone();
        identity["id"] = json!(id);
        identity["name"] = json!(name);
        identity["roleAttributes"] = json!([attribute]);
        let mut certificate = self.certificate.clone();
        certificate["subject"] = json!(subject.to_string());
        certificate["spkiSha256"] = json!(issued.spki_sha256);
        certificate["notAfter"] = json!(issued.not_after.format(&Rfc3339)?);
        let txn = txn
            .absent(format!("name/identity/{name}"))
            .put(format!("identity/{id}"), identity.to_string())
            .put(format!("name/identity/{name}"), id.clone())
            .put(format!("certificate/{}", issued.serial), certificate.to_string());
        debug_assert!(issued.serial != self.serial && id != self.id);
        let file = IdentityFile::new(&[controller.to_owned()], &issued.chain_pem, &key, &authority.ca_pem());
        Ok((file, txn))
    }
}
