//! The authority: what a leaf holds, what is refused, what is on disk.

use crate::common::*;
use hesper_pki::{
    ca::{CaError, CertificateAuthority},
    credentials::{Credentials, CredentialsError},
    csr, key, pem,
    spiffe::{self, LeafError, SpiffeId, SpiffeRole},
    tls,
};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use std::{os::unix::fs::MetadataExt, time::Duration};
use time::OffsetDateTime;

#[test]
fn a_leaf_names_its_subject_and_may_sign_nothing() {
    let ca = authority("mesh.example");
    let key = key::generate().unwrap();
    let issued = issue(&ca, identity("alice"), &key);
    let leaf = pem::certificates(&issued.chain_pem).unwrap().remove(0);
    let peer = tls::peer_of(std::slice::from_ref(&leaf)).unwrap();
    assert_eq!(peer.id.to_string(), "spiffe://mesh.example/identity/alice");
    assert_eq!(
        (&peer.serial, &peer.spki_sha256, peer.not_after),
        (&issued.serial, &issued.spki_sha256, issued.not_after)
    );
    assert_eq!(issued.spki_sha256, key.spki_sha256());
    assert_eq!(issued.serial.len(), 32);

    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let basic = parsed.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any && usage.other.is_empty());
    assert!(!parsed.key_usage().unwrap().unwrap().value.key_cert_sign());

    let root = pem::certificates(&ca.ca_pem()).unwrap().remove(0);
    let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
    let basic = root.basic_constraints().unwrap().unwrap().value;
    assert_eq!((basic.ca, basic.path_len_constraint), (true, Some(0)));
}

#[test]
fn serials_and_keys_differ_each_time() {
    let ca = authority("mesh.example");
    let key = key::generate().unwrap();
    let serials: std::collections::HashSet<_> =
        (0..100).map(|_| issue(&ca, identity("alice"), &key).serial).collect();
    assert_eq!(serials.len(), 100);
    assert!(serials.iter().all(|serial| serial.len() == 32));
}

#[test]
fn nothing_of_a_request_but_its_key_is_taken() {
    let ca = authority("mesh.example");
    let key = key::generate().unwrap();
    let pair = KeyPair::from_pem(&key.to_pem()).unwrap();
    let mut greedy = CertificateParams::new(vec!["ctrl".into()]).unwrap();
    greedy.subject_alt_names.push(SanType::URI("spiffe://mesh.example/controller/c1".try_into().unwrap()));
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let der = greedy.serialize_request(&pair).unwrap().der().to_vec();

    let mut request = request(identity("alice"), &key);
    request.spki_der = csr::public_key(&der).unwrap();
    let issued = ca.issue(&request, OffsetDateTime::now_utc()).unwrap();
    let leaf = pem::certificates(&issued.chain_pem).unwrap().remove(0);
    assert_eq!(spiffe::of_leaf(&leaf).unwrap(), identity("alice"));
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    assert!(!parsed.is_ca());
}

#[test]
fn bad_requests_are_refused() {
    let ca = authority("mesh.example");
    let key = key::generate().unwrap();
    let now = OffsetDateTime::now_utc();
    let good = request(identity("alice"), &key);
    let with = |change: &dyn Fn(&mut hesper_pki::ca::IssueRequest)| {
        let mut request = good.clone();
        change(&mut request);
        ca.issue(&request, now).unwrap_err()
    };
    let other = SpiffeId::new("other.example", SpiffeRole::Identity, "alice").unwrap();
    assert!(matches!(with(&|r| r.subject = other.clone()), CaError::TrustDomain { .. }));
    assert!(matches!(with(&|r| r.subject.id = "a/../b".into()), CaError::Subject(_)));
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().subject_public_key_info();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().subject_public_key_info();
    for spki in [ed25519, p384, vec![], vec![0x30, 0]] {
        assert!(matches!(with(&|r| r.spki_der = spki.clone()), CaError::PublicKey));
    }
    for name in ["", "a b", "é.example", "*", "-x"] {
        assert!(matches!(with(&|r| r.dns_names = vec![name.into()]), CaError::DnsName(_)), "{name:?}");
    }
    for validity in [Duration::ZERO, Duration::MAX] {
        assert!(matches!(with(&|r| r.validity = validity), CaError::Validity));
    }
    assert!(matches!(CertificateAuthority::create("Not Valid", now), Err(CaError::Subject(_))));
}

#[test]
fn a_leaf_never_outlives_the_root_and_begins_a_little_early() {
    let now = OffsetDateTime::now_utc();
    let ca = authority("mesh.example");
    let key = key::generate().unwrap();
    let mut request = request(identity("alice"), &key);
    request.validity = DAY * 36_500;
    let long = ca.issue(&request, now).unwrap();
    assert!(long.not_after < now + time::Duration::days(3653));
    request.validity = Duration::from_secs(60);
    let short = ca.issue(&request, now).unwrap();
    assert!(now - short.not_before <= time::Duration::seconds(7));
    assert!(ca.issue(&request, now + time::Duration::days(3700)).is_err());
}

#[test]
fn the_authority_is_kept_in_private_files_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("home/pki");
    let ca = authority("mesh.example");
    ca.save(&pki).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&pki), mode(&pki.join("ca.key"))), (0o700, 0o600));
    assert!(matches!(authority("mesh.example").save(&pki), Err(CaError::File(e)) if e.already_exists()));

    let again = CertificateAuthority::load(&pki).unwrap();
    assert_eq!((again.ca_sha256(), again.trust_domain()), (ca.ca_sha256(), "mesh.example"));
    let key = key::generate().unwrap();
    let issued = issue(&again, identity("alice"), &key);
    let credentials = Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem()).unwrap();
    credentials.check_chain(OffsetDateTime::now_utc()).unwrap();
    let secret = std::fs::read_to_string(pki.join("ca.key")).unwrap();
    assert!(!format!("{again:?}").contains(secret.lines().nth(1).unwrap()));

    std::fs::write(pki.join("ca.key"), key.to_pem().as_bytes()).unwrap();
    assert!(matches!(CertificateAuthority::load(&pki), Err(CaError::Mismatch)));
    assert!(matches!(CertificateAuthority::load(dir.path()), Err(CaError::File(e)) if e.not_found()));
}

#[test]
fn credentials_need_the_leafs_own_key_and_are_never_printed() {
    let ca = authority("mesh.example");
    let (key, other) = (key::generate().unwrap(), key::generate().unwrap());
    let chain = issue(&ca, identity("alice"), &key).chain_pem;
    let mismatch = Credentials::from_pem(&chain, &other.to_pem(), &ca.ca_pem());
    assert!(matches!(mismatch, Err(CredentialsError::Mismatch)));
    assert!(matches!(
        Credentials::from_pem("", &key.to_pem(), &ca.ca_pem()),
        Err(CredentialsError::Certificate(_))
    ));
    assert!(matches!(Credentials::from_pem(&chain, &key.to_pem(), ""), Err(CredentialsError::Ca(_))));
    assert!(matches!(Credentials::from_pem(&chain, "", &ca.ca_pem()), Err(CredentialsError::Key(_))));
    let good = Credentials::from_pem(&chain, &key.to_pem(), &ca.ca_pem()).unwrap();
    assert!(!format!("{good:?}").contains("PRIVATE"));
    assert!(good.check_chain(OffsetDateTime::now_utc() + time::Duration::days(2)).is_err());
    let foreign = Credentials::from_pem(&chain, &key.to_pem(), &authority("mesh.example").ca_pem()).unwrap();
    assert!(foreign.check_chain(OffsetDateTime::now_utc()).is_err());
}

#[test]
fn a_certificate_with_no_or_two_names_names_nobody() {
    let pair = KeyPair::generate().unwrap();
    let leaf = |uris: &[&str]| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&pair).unwrap().der().clone()
    };
    assert_eq!(spiffe::of_leaf(&leaf(&[])), Err(LeafError::UriNames(0)));
    let two = leaf(&["spiffe://m/identity/a", "spiffe://m/identity/b"]);
    assert_eq!(spiffe::of_leaf(&two), Err(LeafError::UriNames(2)));
    assert!(matches!(spiffe::of_leaf(&leaf(&["https://m"])), Err(LeafError::Name { .. })));
    assert_eq!(spiffe::of_leaf(&vec![1, 2, 3].into()), Err(LeafError::Unreadable));
    assert_eq!(tls::peer_of(&[]), Err(LeafError::Unreadable));
}

#[test]
fn a_leaf_cannot_issue() {
    let ca = authority("mesh.example");
    let mallory = key::generate().unwrap();
    let own = issue(&ca, identity("mallory"), &mallory).chain_pem;
    let own_der = pem::certificates(&own).unwrap().remove(0);
    let issuer = Issuer::from_ca_cert_der(&own_der, KeyPair::from_pem(&mallory.to_pem()).unwrap()).unwrap();
    let victim = key::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity("victim").to_string().try_into().unwrap())];
    let forged = params.signed_by(&KeyPair::from_pem(&victim.to_pem()).unwrap(), &issuer).unwrap();
    let chain = format!("{}{own}", forged.pem());
    let credentials = Credentials::from_pem(&chain, &victim.to_pem(), &ca.ca_pem()).unwrap();
    assert_eq!(credentials.id, identity("victim"));
    assert!(credentials.check_chain(OffsetDateTime::now_utc()).is_err());
}
