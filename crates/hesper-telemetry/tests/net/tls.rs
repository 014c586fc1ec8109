use crate::{
    DEADLINE, accept,
    certs::{Ca, Leaf, client, self_signed, server, write},
    next, talk, underlay,
};
use hesper_collector_config::{ClientTls, Endpoint, ServerTls, TlsVersion};
use hesper_telemetry::net::{
    BoxIo, Connector, Listener, Peer, listen,
    tls::{ClientTlsLayer, H2, HTTP1, ServerTlsLayer},
    underlay::UnderlayConnector,
};
use std::{fs, io, time::Duration};
use tokio::time::{sleep, timeout};

/// What became of a handshake at both ends.
struct Met {
    client: io::Result<(BoxIo, Option<Vec<u8>>)>,
    server: io::Result<(BoxIo, Peer)>,
}

impl Met {
    fn both(self) -> (BoxIo, BoxIo, Peer) {
        let (server, peer) = self.server.expect("the server's end");
        (self.client.expect("the client's end").0, server, peer)
    }

    /// One end refused; both ends' texts. In TLS 1.3 a client learns of it only when it reads.
    async fn refusal(self) -> String {
        let server = self.server.map(|_| ()).err().map(|e| e.to_string());
        let client = match self.client {
            Err(e) => Some(e.to_string()),
            Ok((mut io, _)) => {
                let read = timeout(DEADLINE, tokio::io::AsyncReadExt::read(&mut io, &mut [0])).await;
                read.expect("in time").err().map(|e| e.to_string())
            }
        };
        assert!(server.is_some() || client.is_some(), "nobody refused");
        format!("server: {}; client: {}", server.unwrap_or_default(), client.unwrap_or_default())
    }
}

struct Port {
    listener: Listener,
    endpoint: Endpoint,
}

impl Port {
    async fn new(tls: &ServerTls) -> Self {
        let listener = listen(&underlay("127.0.0.1:0"), Some(tls)).await.expect("listens");
        let endpoint = Endpoint::parse(&listener.addresses[0].to_string()).expect("an endpoint");
        Self { listener, endpoint }
    }

    async fn meet(&mut self, layer: &ClientTlsLayer) -> Met {
        let io = UnderlayConnector::default().connect(&self.endpoint).await.expect("connected");
        let arrival = next(&mut *self.listener.incoming).await;
        let both = async { tokio::join!(layer.handshake(io, "localhost"), arrival.ready) };
        let (client, server) = timeout(DEADLINE, both).await.expect("in time");
        Met { client, server }
    }

    async fn meet_with(&mut self, tls: &ClientTls) -> Met {
        self.meet(&ClientTlsLayer::new(tls, &[H2, HTTP1]).expect("a client")).await
    }
}

#[tokio::test]
async fn bytes_pass_and_the_best_protocol_is_chosen() {
    let ca = Ca::new("ca");
    let mut port = Port::new(&server(ca.leaf("server").inline())).await;
    for (offered, chosen) in [(&[H2, HTTP1][..], Some(H2)), (&[HTTP1][..], Some(HTTP1)), (&[][..], None)] {
        let layer = ClientTlsLayer::new(&client(&ca.pem), offered).expect("a client");
        let met = port.meet(&layer).await;
        let protocol = met.client.as_ref().ok().and_then(|(_, protocol)| protocol.clone());
        assert_eq!(protocol.as_deref(), chosen);
        let (mut ours, mut theirs, peer) = met.both();
        talk(&mut ours, &mut theirs).await;
        talk(&mut theirs, &mut ours).await;
        assert_eq!(peer.tls_subject, None);
        assert!(peer.address.is_some());
    }
}

#[tokio::test]
async fn a_unix_socket_may_speak_tls() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().expect("a directory"));
    let path = format!("unix://{}", dir.path().join("otlp.sock").display());
    let tls = server(ca.leaf("server").inline());
    let mut listener = listen(&underlay(&path), Some(&tls)).await.expect("listens");
    let endpoint = Endpoint::parse(&path).expect("an endpoint");
    let io = UnderlayConnector::default().connect(&endpoint).await.expect("connected");
    let layer = ClientTlsLayer::new(&client(&ca.pem), &[H2]).expect("a client");
    let (ours, theirs) = tokio::join!(layer.wrap(io, "localhost"), accept(&mut *listener.incoming));
    talk(&mut ours.expect("TLS"), &mut { theirs.0 }).await;
}

#[tokio::test]
async fn with_a_client_ca_only_its_clients_come_in_and_are_known_by_name() {
    let (ca, clients, dir) = (Ca::new("ca"), Ca::new("clients"), tempfile::tempdir().expect("a directory"));
    let mut tls = server(ca.leaf("server").inline());
    tls.client_ca_file = Some(write(dir.path().join("clients.pem"), &clients.pem));
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        tls.max_version = version;
        let mut port = Port::new(&tls).await;
        let with = |leaf: Leaf| ClientTls { identity: Some(leaf.inline()), ..client(&ca.pem) };
        let (mut ours, mut theirs, peer) = port.meet_with(&with(clients.leaf("edge-1"))).await.both();
        talk(&mut ours, &mut theirs).await;
        assert_eq!(peer.tls_subject.as_deref(), Some("CN=edge-1"));

        let refused = port.meet_with(&client(&ca.pem)).await.refusal().await;
        assert!(refused.contains("no certificates") || refused.contains("ertificateRequired"), "{refused}");
        let refused = port.meet_with(&with(ca.leaf("edge-1"))).await.refusal().await;
        assert!(refused.contains("UnknownIssuer") || refused.contains("UnknownCA"), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_is_rotated_while_streams_live() {
    let (old, new, dir) = (Ca::new("old"), Ca::new("new"), tempfile::tempdir().expect("a directory"));
    let mut port = Port::new(&server(old.leaf("server").write(dir.path()))).await;
    let (mut ours, mut theirs, _) = port.meet_with(&client(&old.pem)).await.both();
    let refused = port.meet_with(&client(&new.pem)).await.refusal().await;
    assert!(refused.contains("ca_file"), "tells what to do: {refused}");

    // A broken file, and a key without its certificate: the old one stays.
    for broken in ["", "nonsense", &new.leaf("server").cert] {
        fs::write(dir.path().join("cert.pem"), broken).expect("written");
        port.meet_with(&client(&old.pem)).await.both();
    }
    new.leaf("server").write(dir.path());
    port.meet_with(&client(&new.pem)).await.both();
    port.meet_with(&client(&old.pem)).await.refusal().await;
    talk(&mut ours, &mut theirs).await;
}

#[tokio::test]
async fn the_ca_of_clients_is_rotated() {
    let (ca, old, new) = (Ca::new("ca"), Ca::new("old"), Ca::new("new"));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("clients.pem");
    let mut tls = server(ca.leaf("server").inline());
    (tls.client_ca_file, tls.client_ca_file_reload) = (Some(write(file.clone(), &old.pem)), true);
    let mut port = Port::new(&tls).await;
    let with = |ca_of: &Ca| ClientTls { identity: Some(ca_of.leaf("edge").inline()), ..client(&ca.pem) };
    let (old, new_client) = (with(&old), with(&new));
    port.meet_with(&old).await.both();
    write(file, &new.pem);
    let rotated = async {
        while port.meet_with(&new_client).await.server.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, rotated).await.expect("the new CA is taken");
    port.meet_with(&old).await.refusal().await;
}

#[tokio::test]
async fn what_a_client_shows_and_trusts_is_rotated() {
    let (old, new, dir) = (Ca::new("old"), Ca::new("new"), tempfile::tempdir().expect("a directory"));
    let both = format!("{}{}", old.pem, new.pem);
    let mut tls = server(old.leaf("server").write(dir.path()));
    tls.client_ca_file = Some(write(dir.path().join("clients.pem"), &both));
    let mut port = Port::new(&tls).await;
    let home = tempfile::tempdir().expect("a directory");
    let settings = ClientTls {
        ca_file: Some(write(home.path().join("ca.pem"), &old.pem)),
        ca_pem: None,
        identity: Some(old.leaf("before").write(home.path())),
        ..client("")
    };
    let layer = ClientTlsLayer::new(&settings, &[H2]).expect("a client");
    let (.., peer) = port.meet(&layer).await.both();
    assert_eq!(peer.tls_subject.as_deref(), Some("CN=before"));

    new.leaf("server").write(dir.path());
    port.meet(&layer).await.refusal().await;
    write(home.path().join("ca.pem"), &new.pem);
    new.leaf("after").write(home.path());
    let (.., peer) = port.meet(&layer).await.both();
    assert_eq!(peer.tls_subject.as_deref(), Some("CN=after"));
}

#[tokio::test]
async fn versions_are_held_to() {
    let ca = Ca::new("ca");
    for (min, max, agreed) in [
        (TlsVersion::Tls12, TlsVersion::Tls12, false),
        (TlsVersion::Tls12, TlsVersion::Tls13, true),
        (TlsVersion::Tls13, TlsVersion::Tls13, true),
    ] {
        let tls = ServerTls { min_version: TlsVersion::Tls13, ..server(ca.leaf("server").inline()) };
        let mut port = Port::new(&tls).await;
        let settings = ClientTls { min_version: min, max_version: max, ..client(&ca.pem) };
        let met = port.meet_with(&settings).await;
        if agreed {
            met.both();
        } else {
            met.refusal().await;
        }
        let tls = ServerTls { max_version: TlsVersion::Tls12, ..server(ca.leaf("server").inline()) };
        let met = Port::new(&tls).await.meet_with(&settings).await;
        if min == TlsVersion::Tls12 {
            met.both();
        } else {
            met.refusal().await;
        }
    }
}

#[tokio::test]
async fn names_are_checked_unless_told_otherwise() {
    let ca = Ca::new("ca");
    let mut port = Port::new(&server(ca.leaf("server").inline())).await;
    let named = |name: &str| ClientTls { server_name_override: Some(name.into()), ..client(&ca.pem) };
    let refused = port.meet_with(&named("traces.example.com")).await.refusal().await;
    assert!(refused.contains("traces.example.com") && refused.contains("server_name_override"), "{refused}");
    port.meet_with(&named("127.0.0.1")).await.both();
    let careless = ClientTls { insecure_skip_verify: true, ca_pem: None, ..named("traces.example.com") };
    port.meet_with(&careless).await.both();
}

#[tokio::test]
async fn a_certificate_that_is_its_own_ca_is_taken_when_it_was_given() {
    let (own, other) = (self_signed(), self_signed());
    let mut port = Port::new(&server(own.inline())).await;
    port.meet_with(&client(&own.cert)).await.both();
    port.meet_with(&client(&other.cert)).await.refusal().await;
    let named = ClientTls { server_name_override: Some("other.example".into()), ..client(&own.cert) };
    let refused = port.meet_with(&named).await.refusal().await;
    assert!(refused.contains("other.example"), "{refused}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().expect("a directory"));
    let leaf = ca.leaf("server");
    let identity = leaf.write(dir.path());
    let fault = |reason: &str| {
        let error = ServerTlsLayer::new(&server(identity.clone())).expect_err(reason).to_string();
        assert!(error.contains(dir.path().to_str().expect("UTF-8")) && error.contains(reason), "{error}");
        let as_client = ClientTls { identity: Some(identity.clone()), ..client(&ca.pem) };
        let error = ClientTlsLayer::new(&as_client, &[H2]).expect_err(reason).to_string();
        assert!(error.contains(reason) && !error.contains("PRIVATE"), "{error}");
    };
    ca.expired("server").write(dir.path());
    fault("expired");
    fs::write(dir.path().join("key.pem"), ca.leaf("other").key).expect("written");
    fs::write(dir.path().join("cert.pem"), &leaf.cert).expect("written");
    fault("does not belong");
    fs::write(dir.path().join("key.pem"), &leaf.cert).expect("written");
    fault("no private key");
    fs::write(dir.path().join("cert.pem"), &leaf.key).expect("written");
    fault("no certificate");
    fs::remove_file(dir.path().join("cert.pem")).expect("removed");
    fault("cannot be read");
    let error = ClientTlsLayer::new(&client("nonsense"), &[H2]).expect_err("no CA").to_string();
    assert!(error.contains("ca_pem"), "{error}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_so() {
    let ca = Ca::new("ca");
    let mut listener = listen(&underlay("127.0.0.1:0"), None).await.expect("listens");
    let endpoint = Endpoint::parse(&listener.addresses[0].to_string()).expect("an endpoint");
    let io = UnderlayConnector::default().connect(&endpoint).await.expect("connected");
    let layer = ClientTlsLayer::new(&client(&ca.pem), &[H2]).expect("a client");
    let answer = async {
        let (mut io, _) = accept(&mut *listener.incoming).await;
        tokio::io::AsyncWriteExt::write_all(&mut io, b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
        io
    };
    let (error, _io) = tokio::join!(layer.wrap(io, "localhost"), answer);
    let error = error.err().expect("no TLS").to_string();
    assert!(error.contains("localhost") && error.contains("insecure: true"), "{error}");
}
