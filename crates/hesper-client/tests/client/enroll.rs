//! Enrollment: what a good one gives, and a distinct error for each way it can go wrong.

use crate::server::*;
use hesper_client::{
    connect::ConnectError,
    enroll::{ENROLL_PATH, EnrollError, LostAnswer, enroll, enroll_with_key},
};
use hesper_pki::{
    credentials::CredentialsError,
    key,
    spiffe::SpiffeRole,
    token::{EnrollmentClaims, EnrollmentMethod, TokenError},
};
use std::{
    error::Error,
    sync::{Arc, Mutex},
};
use time::OffsetDateTime;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// An honest controller for alice.
async fn honest(network: &Arc<Network>) -> Serving {
    let issuing = network.clone();
    serve(network.controller(), move |asked| {
        let chain = issuing.chain(SpiffeRole::Identity, "alice", &asked.spki(), HOUR);
        granted(&chain, &issuing.ca.ca_pem())
    })
    .await
}

/// The error with its causes, as the program prints it.
fn printed(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[tokio::test]
async fn a_token_becomes_an_identity_file_and_the_key_stays_here() {
    let network = Network::new();
    let issuing = network.clone();
    let asked = Arc::new(Mutex::new(vec![]));
    let record = asked.clone();
    let controller = serve(network.controller(), move |request| {
        let chain = issuing.chain(SpiffeRole::Identity, "alice", &request.spki(), HOUR);
        record.lock().unwrap().push(request);
        granted(&chain, &issuing.ca.ca_pem())
    })
    .await;
    let token = network.token(&controller.url);
    let enrolled = enroll(&format!("{token}\n"), now()).await.unwrap();
    assert_eq!(enrolled.id.to_string(), "spiffe://mesh.example/identity/alice");
    assert_eq!(enrolled.method, EnrollmentMethod::Ott);
    assert_eq!(enrolled.identity_file.controllers(), std::slice::from_ref(&controller.url));
    let credentials = enrolled.identity_file.credentials().unwrap();
    assert_eq!(credentials.not_after, enrolled.not_after);
    credentials.check_chain(now()).unwrap();

    let asked = asked.lock().unwrap();
    let [request] = &asked[..] else { panic!("{} requests", asked.len()) };
    assert_eq!((request.path.as_str(), request.body["token"].as_str()), (ENROLL_PATH, Some(token.as_str())));
    assert_eq!(request.spki(), credentials.key.spki_der());
    assert!(!request.body.to_string().contains("PRIVATE"));
    assert!(!format!("{enrolled:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_router_is_enrolled_the_same_way_and_a_key_may_be_given() {
    let network = Network::new();
    let issuing = network.clone();
    let controller = serve(network.controller(), move |asked| {
        granted(&issuing.chain(SpiffeRole::Router, "alice", &asked.spki(), HOUR), &issuing.ca.ca_pem())
    })
    .await;
    let claims = network.claims(std::slice::from_ref(&controller.url), EnrollmentMethod::Erott);
    let token = network.signer.sign(&claims).unwrap();
    let key = key::generate().unwrap();
    for _ in 0..2 {
        let enrolled = enroll_with_key(&token, key.clone(), now()).await.unwrap();
        assert_eq!((enrolled.id.role, enrolled.method), (SpiffeRole::Router, EnrollmentMethod::Erott));
        assert_eq!(enrolled.identity_file.credentials().unwrap().spki_sha256, key.spki_sha256());
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_before_anybody_is_asked() {
    let network = Network::new();
    // Nobody listens there: a connection would be another error.
    let url = "https://127.0.0.1:1";
    let good = network.token(url);
    let expired = EnrollmentClaims {
        exp: now().unix_timestamp() as u64,
        ..network.claims(&[url.to_owned()], EnrollmentMethod::Ott)
    };
    let error = enroll(&network.signer.sign(&expired).unwrap(), now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Expired(TokenError::Expired { .. })), "{error:?}");
    let (start, _) = good.split_at(good.len() / 2);
    for (token, expected) in [
        ("hello", "not usable; check that the file is whole: this is not a JWT: it has not three parts"),
        (start, "this is not a JWT"),
        ("eyJhbGciOiJub25lIn0.e30.", "the token's algorithm is \"none\", only EdDSA is accepted"),
    ] {
        let error = enroll(token, now()).await.unwrap_err();
        assert!(matches!(error, EnrollError::Token(_)), "{error:?}");
        assert!(printed(&error).contains(expected), "{}", printed(&error));
    }
    let plain = EnrollmentClaims {
        ctrls: vec!["http://ctrl".into()],
        ..network.claims(&[url.to_owned()], EnrollmentMethod::Ott)
    };
    let error = enroll(&network.signer.sign(&plain).unwrap(), now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Url(_)), "{error:?}");
}

#[tokio::test]
async fn another_networks_controller_at_that_address_is_told_apart() {
    let (network, other) = (Network::new(), Network::new());
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let impostor = serve(other.controller(), move |_| {
        *count.lock().unwrap() += 1;
        None
    })
    .await;
    let error = enroll(&network.token(&impostor.url), now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::OtherCa { .. }), "{error:?}");
    assert!(printed(&error).contains("does not belong to the network that issued this token"));
    assert!(printed(&error).contains(&network.ca.ca_sha256()));
    assert_eq!(*asked.lock().unwrap(), 0, "the one-time secret must not reach it");
}

#[tokio::test]
async fn nobody_there_names_the_address_and_the_next_controller_is_tried() {
    let network = Network::new();
    let (closed, address) = listen().await;
    drop(closed);
    let dead = format!("https://127.0.0.1:{}", address.port());
    let error = enroll(&network.token(&dead), now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Unreachable { source: ConnectError::Tcp { .. }, .. }), "{error:?}");
    assert!(printed(&error).contains(&dead) && printed(&error).contains("check that the controller runs"));

    let controller = honest(&network).await;
    let claims = network.claims(&[dead.clone(), controller.url.clone()], EnrollmentMethod::Ott);
    let enrolled = enroll(&network.signer.sign(&claims).unwrap(), now()).await.unwrap();
    assert_eq!(enrolled.identity_file.controllers(), [dead, controller.url.clone()]);
}

#[tokio::test]
async fn a_silent_or_foreign_server_does_not_hold_us() {
    let network = Network::new();
    // Connections are accepted by the system and never answered.
    let (_listener, address) = listen().await;
    let url = format!("https://127.0.0.1:{}", address.port());
    let error = enroll(&network.token(&url), now()).await.unwrap_err();
    assert!(
        matches!(error, EnrollError::Unreachable { source: ConnectError::Timeout { .. }, .. }),
        "{error:?}"
    );

    let (listener, address) = listen().await;
    let plain = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp
    });
    let url = format!("https://127.0.0.1:{}", address.port());
    let error = enroll(&network.token(&url), now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::Unreachable { source: ConnectError::Tls { .. }, .. }), "{error:?}");
    plain.await.unwrap();
}

#[tokio::test]
async fn the_controllers_refusal_is_handed_on() {
    let network = Network::new();
    let refusal = r#"{"error":{"code":"ENROLLMENT_ALREADY_REDEEMED","message":"redeemed by another key","requestId":"1"},"meta":{}}"#;
    let controller = serve(network.controller(), move |_| Some((409, refusal.into()))).await;
    let error = enroll(&network.token(&controller.url), now()).await.unwrap_err();
    let EnrollError::Refused { code, message } = &error else { panic!("{error:?}") };
    assert_eq!((code.as_str(), message.as_str()), ("ENROLLMENT_ALREADY_REDEEMED", "redeemed by another key"));
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart_from_lost_ones() {
    let network = Network::new();
    for answer in [
        Some((502, "<html>Bad Gateway</html>".to_owned())),
        Some((200, "{}".to_owned())),
        Some((500, r#"{"data":{"cert":"","ca":""}}"#.to_owned())),
    ] {
        let controller = serve(network.controller(), move |_| answer.clone()).await;
        let error = enroll(&network.token(&controller.url), now()).await.unwrap_err();
        assert!(matches!(error, EnrollError::NotAnAnswer { .. }), "{error:?}");
    }
    let controller = serve(network.controller(), |_| Some((200, " ".repeat(65 * 1024)))).await;
    let error = enroll(&network.token(&controller.url), now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::LostAnswer { source: LostAnswer::Body(_), .. }), "{error:?}");

    let controller = serve(network.controller(), |_| None).await;
    let error = enroll(&network.token(&controller.url), now()).await.unwrap_err();
    assert!(matches!(error, EnrollError::LostAnswer { source: LostAnswer::Http(_), .. }), "{error:?}");
    assert!(error.to_string().contains("run the same command again"));
}

#[tokio::test]
async fn a_certificate_that_was_not_asked_for_is_refused() {
    let network = Network::new();
    let try_with = async |role: SpiffeRole, id: &'static str, own_key: bool, same_ca: bool| {
        let issuing = if same_ca { network.clone() } else { Network::new() };
        let controller = serve(network.controller(), move |asked| {
            let spki = if own_key { asked.spki() } else { other_key().spki_der().to_vec() };
            granted(&issuing.chain(role, id, &spki, HOUR), &issuing.ca.ca_pem())
        })
        .await;
        enroll(&network.token(&controller.url), now()).await.unwrap_err()
    };
    let error = try_with(SpiffeRole::Identity, "alice", false, true).await;
    assert!(matches!(error, EnrollError::Credentials(CredentialsError::Mismatch)), "{error:?}");
    for (role, id, same_ca) in [
        (SpiffeRole::Identity, "bob", true),
        (SpiffeRole::Router, "alice", true),
        (SpiffeRole::Identity, "alice", false),
    ] {
        let error = try_with(role, id, true, same_ca).await;
        assert!(matches!(error, EnrollError::OtherCertificate(_)), "{error:?}");
    }
}
