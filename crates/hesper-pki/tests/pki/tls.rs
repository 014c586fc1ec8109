//! Real handshakes, in memory: who is accepted, who is refused and why, and what is read from the proof.

use crate::{attacker::*, common::*};
use hesper_pki::{
    CertificateDer,
    ca::CertificateAuthority,
    credentials::{Credentials, SharedCredentials},
    key::{self, PrivateKey},
    pem,
    spiffe::{SpiffeId, SpiffeRole},
    tls::{self, VerifyError, refusal},
};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::HandshakeKind;
use std::sync::Arc;
use time::OffsetDateTime;

struct Mesh {
    ca: CertificateAuthority,
    alice: SharedCredentials,
    bob: SharedCredentials,
}

fn mesh() -> Mesh {
    let ca = authority("mesh.example");
    let (alice, bob) = (shared(&ca, identity("alice")), shared(&ca, identity("bob")));
    Mesh { ca, alice, bob }
}

#[test]
fn peers_prove_who_they_are_and_show_nothing_else() {
    let Mesh { alice, bob, .. } = mesh();
    let client = tls::peer_client(alice.clone(), identity("bob"));
    let sides = handshake(client, tls::peer_server(bob), "whatever").unwrap();
    assert_eq!((server_of(&sides), client_of(&sides)), (identity("bob"), identity("alice")));
    assert_eq!(sides.0.alpn_protocol(), Some(b"hq".as_slice()));
    assert_eq!(sides.0.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(sides.1.server_name(), None);
    // One certificate each way: no root, no extra name.
    assert_eq!(sides.0.peer_certificates().unwrap().len(), 1);
    let peer = tls::peer_of(sides.1.peer_certificates().unwrap()).unwrap();
    assert_eq!(peer.spki_sha256, alice.current().spki_sha256);
}

#[test]
fn anybody_but_the_expected_peer_is_refused() {
    let Mesh { alice, bob, ca } = mesh();
    let router = shared(&ca, name(SpiffeRole::Router, "bob"));
    for (server, found) in [(alice.clone(), identity("alice")), (router, name(SpiffeRole::Router, "bob"))] {
        let client = tls::peer_client(alice.clone(), identity("bob"));
        let expected = identity("bob");
        let result = handshake(client, tls::peer_server(server), "bob");
        assert_eq!(reason(result), ("client", VerifyError::Unexpected { expected, found }));
    }
    let elsewhere = SpiffeId::new("other.example", SpiffeRole::Identity, "bob").unwrap();
    let client = tls::peer_client(alice, elsewhere);
    assert!(matches!(
        reason(handshake(client, tls::peer_server(bob), "bob")),
        ("client", VerifyError::Unexpected { .. })
    ));
}

#[test]
fn certificates_of_another_authority_are_refused_on_both_sides() {
    let Mesh { alice, bob, .. } = mesh();
    // The same trust domain and names, another key: only the signature tells.
    let other = authority("mesh.example");
    let mallory = shared(&other, identity("bob"));
    let client = tls::peer_client(alice, identity("bob"));
    assert_eq!(refused(handshake(client, tls::peer_server(mallory.clone()), "bob")).0, "client");

    let current = mallory.current();
    let client = attacker(Some((current.chain.clone(), &current.key)), tls::ALPN_OVERLAY);
    assert_eq!(refused(handshake(client, tls::peer_server(bob.clone()), "bob")).0, "server");
    let client = attacker(Some((current.chain.clone(), &current.key)), b"h2");
    let server = tls::controller_server(bob);
    assert_eq!(refused(handshake(client, server, "bob")).0, "server");
}

#[test]
fn a_peer_must_show_a_certificate_and_the_controllers_client_may() {
    let Mesh { bob, ca, .. } = mesh();
    let client = attacker(None, tls::ALPN_OVERLAY);
    assert_eq!(refused(handshake(client, tls::peer_server(bob), "bob")).0, "server");

    let server = tls::controller_server(controller(&ca));
    let sides = handshake(attacker(None, b"http/1.1"), server, "ctrl").unwrap();
    assert!(sides.1.peer_certificates().is_none());
}

#[test]
fn a_certificate_without_its_key_proves_nothing() {
    let Mesh { alice, bob, .. } = mesh();
    let (stolen, own) = (alice.current().chain.clone(), key::generate().unwrap());
    let client = attacker(Some((stolen, &own)), tls::ALPN_OVERLAY);
    assert_eq!(refused(handshake(client, tls::peer_server(bob.clone()), "bob")).0, "server");

    let server = overlay(impostor(bob.current().chain.clone(), &own));
    let client = tls::peer_client(alice, identity("bob"));
    assert_eq!(refused(handshake(client, server, "bob")).0, "client");
}

#[test]
fn other_certificates_in_the_chain_change_nothing() {
    let Mesh { alice, bob, ca } = mesh();
    let (own, victim) = (alice.current(), bob.current());
    let root = pem::certificates(&ca.ca_pem()).unwrap().remove(0);
    let leaf = |c: &Credentials| c.chain[0].clone();
    for chain in [
        vec![leaf(&own), leaf(&victim)],
        vec![leaf(&own), leaf(&victim), root.clone()],
        vec![leaf(&own), leaf(&own)],
        vec![leaf(&own), root.clone(), leaf(&victim)],
    ] {
        let client = attacker(Some((chain, &own.key)), tls::ALPN_OVERLAY);
        let sides = handshake(client, tls::peer_server(bob.clone()), "bob").unwrap();
        assert_eq!(client_of(&sides), identity("alice"));
    }
    // The victim's leaf first, the own one as filler: the handshake signature is of the wrong key.
    for chain in [vec![leaf(&victim), leaf(&own)], vec![root.clone(), leaf(&own)]] {
        let client = attacker(Some((chain, &own.key)), tls::ALPN_OVERLAY);
        assert_eq!(refused(handshake(client, tls::peer_server(bob.clone()), "bob")).0, "server");
    }
    // A self-signed certificate that claims the victim's name, with genuine filler.
    let fake = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity("bob").to_string().try_into().unwrap())];
    let forged = params.self_signed(&fake).unwrap().der().clone();
    let fake = PrivateKey::from_pem(&fake.serialize_pem()).unwrap();
    let client = attacker(Some((vec![forged, leaf(&own), root.clone()], &fake)), tls::ALPN_OVERLAY);
    assert_eq!(refused(handshake(client, tls::peer_server(bob.clone()), "bob")).0, "server");

    let long = [vec![leaf(&own)], vec![leaf(&victim); 6]].concat();
    let client = attacker(Some((long, &own.key)), tls::ALPN_OVERLAY);
    assert_eq!(reason(handshake(client, tls::peer_server(bob), "bob")), ("server", VerifyError::LongChain));
}

#[test]
fn a_leaf_signed_by_a_leaf_is_refused_on_both_sides() {
    let Mesh { alice, bob, .. } = mesh();
    let mallory = alice.current();
    let signing = KeyPair::from_pem(&mallory.key.to_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&mallory.chain[0], signing).unwrap();
    let fake = key::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity("bob").to_string().try_into().unwrap())];
    let forged = params.signed_by(&KeyPair::from_pem(&fake.to_pem()).unwrap(), &issuer).unwrap();
    let chain = vec![forged.der().clone(), mallory.chain[0].clone()];

    let client = attacker(Some((chain.clone(), &fake)), tls::ALPN_OVERLAY);
    assert_eq!(refused(handshake(client, tls::peer_server(bob), "bob")).0, "server");
    let client = tls::peer_client(alice.clone(), identity("bob"));
    assert_eq!(refused(handshake(client, overlay(impostor(chain, &fake)), "bob")).0, "client");
}

#[test]
fn a_certificate_outside_its_validity_is_refused_on_both_sides() {
    let Mesh { alice, bob, ca } = mesh();
    let key = key::generate().unwrap();
    let now = OffsetDateTime::now_utc();
    for issued_at in [now - time::Duration::days(3), now + time::Duration::days(3)] {
        let issued = ca.issue(&request(identity("carol"), &key), issued_at).unwrap();
        let carol = Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem()).unwrap();
        let carol = SharedCredentials::new(carol);
        let client = tls::peer_client(carol.clone(), identity("bob"));
        assert_eq!(refused(handshake(client, tls::peer_server(bob.clone()), "bob")).0, "server");
        let client = tls::peer_client(alice.clone(), identity("carol"));
        assert_eq!(refused(handshake(client, tls::peer_server(carol), "carol")).0, "client");
    }
}

#[test]
fn renewed_credentials_and_roots_are_used_by_the_next_handshake() {
    let Mesh { alice, bob, ca } = mesh();
    let client = Arc::new(tls::peer_client(alice.clone(), identity("bob")));
    let server = Arc::new(tls::peer_server(bob.clone()));
    let serials = |sides: &Sides| {
        let serial = |chain: Option<&[CertificateDer<'static>]>| tls::peer_of(chain.unwrap()).unwrap().serial;
        (serial(sides.0.peer_certificates()), serial(sides.1.peer_certificates()))
    };
    let first = serials(&handshake_with(&client, &server, "bob").unwrap());
    let renew = |shared: &SharedCredentials, ca: &CertificateAuthority, roots: &str| {
        let current = shared.current();
        let chain = issue(ca, current.id.clone(), &current.key).chain_pem;
        shared.replace(current.renewed(&chain, roots).unwrap());
    };
    renew(&alice, &ca, &ca.ca_pem());
    renew(&bob, &ca, &ca.ca_pem());
    let second = serials(&handshake_with(&client, &server, "bob").unwrap());
    assert!(first.0 != second.0 && first.1 != second.1);
    assert_eq!((&alice.current().serial, &bob.current().serial), (&second.1, &second.0));

    // A new authority: bob trusts it first, then alice moves to it; alice trusts it, then bob moves.
    let next = authority("mesh.example");
    let both = format!("{}{}", ca.ca_pem(), next.ca_pem());
    renew(&alice, &next, &ca.ca_pem());
    assert_eq!(refused(handshake_with(&client, &server, "bob")).0, "server");
    renew(&bob, &ca, &both);
    handshake_with(&client, &server, "bob").unwrap();
    renew(&bob, &next, &both);
    assert_eq!(refused(handshake_with(&client, &server, "bob")).0, "client");
    renew(&alice, &next, &next.ca_pem());
    handshake_with(&client, &server, "bob").unwrap();
}

#[test]
fn nothing_is_ever_resumed() {
    let Mesh { alice, bob, ca } = mesh();
    let pairs = [
        (tls::peer_client(alice.clone(), identity("bob")), tls::peer_server(bob)),
        (tls::controller_client(alice), tls::controller_server(controller(&ca))),
    ];
    for (client, server) in pairs {
        let (client, server) = (Arc::new(client), Arc::new(server));
        for _ in 0..3 {
            let (client, server) = handshake_with(&client, &server, "ctrl").unwrap();
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(client.tls13_tickets_received(), 0);
            assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        }
        assert!(!client.enable_early_data);
        assert_eq!(server.max_early_data_size, 0);
    }
}

#[test]
fn a_node_reaches_only_a_controller_of_its_mesh_under_its_name() {
    let Mesh { alice, ca, .. } = mesh();
    let ctrl = controller(&ca);
    for name in ["ctrl", "127.0.0.1"] {
        let client = tls::controller_client(alice.clone());
        let sides = handshake(client, tls::controller_server(ctrl.clone()), name).unwrap();
        assert_eq!(client_of(&sides), identity("alice"));
    }
    let client = tls::controller_client(alice.clone());
    assert_eq!(refused(handshake(client, tls::controller_server(ctrl.clone()), "elsewhere")).0, "client");

    // A node's certificate, even if it had the controller's name.
    let key = key::generate().unwrap();
    let mut request = request(identity("mallory"), &key);
    request.dns_names = vec!["ctrl".into()];
    let issued = ca.issue(&request, OffsetDateTime::now_utc()).unwrap();
    let mallory = Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem()).unwrap();
    let mallory = SharedCredentials::new(mallory);
    let not_a_controller = VerifyError::NotAController(identity("mallory"));
    for client in [tls::controller_client(alice.clone()), tls::pinned_client(&ca.ca_sha256())] {
        let result = handshake(client, tls::controller_server(mallory.clone()), "ctrl");
        assert_eq!(reason(result), ("client", not_a_controller.clone()));
    }
    let client = tls::controller_client(alice);
    let other = tls::controller_server(controller(&authority("mesh.example")));
    assert_eq!(refused(handshake(client, other, "ctrl")).0, "client");
}

#[test]
fn a_pinned_client_accepts_one_authority_and_names_the_fault() {
    let ca = authority("mesh.example");
    let other = authority("mesh.example");
    let ctrl = controller(&ca);
    let sides =
        handshake(tls::pinned_client(&ca.ca_sha256()), tls::controller_server(ctrl.clone()), "ctrl").unwrap();
    assert_eq!(server_of(&sides), name(SpiffeRole::Controller, "c1"));

    let result =
        handshake(tls::pinned_client(&other.ca_sha256()), tls::controller_server(ctrl.clone()), "ctrl");
    assert!(matches!(reason(result), ("client", VerifyError::Pin(_))));
    let wrong_name =
        handshake(tls::pinned_client(&ca.ca_sha256()), tls::controller_server(ctrl.clone()), "x");
    assert_eq!(refusal(&refused(wrong_name).1), None);

    // The genuine root shown as filler behind a leaf of another authority.
    let fake = controller(&other).current();
    let root = pem::certificates(&ca.ca_pem()).unwrap().remove(0);
    let server = impostor(vec![fake.chain[0].clone(), root.clone()], &fake.key);
    let (side, error) = refused(handshake(tls::pinned_client(&ca.ca_sha256()), server, "ctrl"));
    assert_eq!((side, refusal(&error)), ("client", None));
    // The root itself as leaf.
    let server = impostor(vec![root.clone(), root], &fake.key);
    assert_eq!(refused(handshake(tls::pinned_client(&ca.ca_sha256()), server, "ctrl")).0, "client");
}

#[test]
fn a_client_with_the_cas_certificate_accepts_that_ca_only() {
    let ca = authority("mesh.example");
    let ctrl = controller(&ca);
    let client = tls::ca_client(&ca.ca_pem()).unwrap();
    handshake(client, tls::controller_server(ctrl.clone()), "ctrl").unwrap();
    let client = tls::ca_client(&authority("mesh.example").ca_pem()).unwrap();
    assert_eq!(refused(handshake(client, tls::controller_server(ctrl), "ctrl")).0, "client");
    assert!(tls::ca_client("no certificate").is_err());
}
