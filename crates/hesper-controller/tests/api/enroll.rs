//! Enrollment: one token, one certificate.

use crate::support::{Harness, code, message};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_pki::{
    key,
    spiffe::SpiffeRole,
    tls,
    token::{self, Signer},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

async fn token(h: &Harness, name: &str) -> (String, String) {
    let made = h.create("identities", json!({ "name": name })).await;
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    (text(&made["id"]), text(&made["enrollment"]["jwt"]))
}

#[tokio::test]
async fn the_certificate_names_the_identity_and_the_token_pins_the_ca() {
    let h = Harness::start().await;
    let (id, jwt) = token(&h, "node").await;
    let claims = token::read_enrollment(&jwt, 0).expect("a token");
    assert_eq!((claims.sub.as_str(), claims.iss.as_str()), (id.as_str(), h.running().url()));
    let left = claims.exp - u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp()).expect("now");
    assert!((3 * 3600 - 60..=3 * 3600).contains(&left), "{left}");
    // The first contact needs nothing but the token.
    let pinned =
        reqwest::Client::builder().tls_backend_preconfigured(tls::pinned_client(&claims.ca_sha256)).build();
    let ca =
        pinned.expect("client").get(h.url("/.well-known/est/cacerts")).send().await.expect("the pinned CA");
    assert_eq!(ca.text().await.expect("PEM"), h.running().ca_pem());

    let key = key::generate().expect("key");
    let (status, answer) = h.redeem(&jwt, &key).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let chain = hesper_pki::pem::certificates(answer["data"]["cert"].as_str().expect("cert")).expect("PEM");
    let peer = tls::peer_of(&chain).expect("a leaf");
    assert_eq!(
        (peer.id.role, peer.id.id.as_str(), peer.id.trust_domain.as_str()),
        (SpiffeRole::Identity, id.as_str(), "test.hesper")
    );
    assert_eq!(peer.spki_sha256, key.spki_sha256());
    let enrollment = &h.get(&format!("/identities/{id}/enrollments")).await[0];
    assert_eq!((&enrollment["state"], &enrollment["serial"]), (&json!("redeemed"), &json!(peer.serial)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_redemptions_at_once_give_one_certificate() {
    let h = Harness::start().await;
    let (_, jwt) = token(&h, "node").await;
    let keys: Vec<_> = (0..64).map(|_| key::generate().expect("key")).collect();
    let answers = futures::future::join_all(keys.iter().map(|key| h.redeem(&jwt, key))).await;
    let mut counts: BTreeMap<(u16, &str), usize> = BTreeMap::new();
    for (status, answer) in &answers {
        *counts.entry((status.as_u16(), code(answer))).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([((200, ""), 1), ((409, "ENROLLMENT_ALREADY_REDEEMED"), 63)]));
    let (winner, _) =
        answers.iter().enumerate().find(|(_, (status, _))| *status == StatusCode::OK).expect("a winner");
    let (status, again) = h.redeem(&jwt, &keys[winner]).await;
    assert_eq!(
        (status, &again),
        (StatusCode::OK, &answers[winner].1),
        "the same key gets the same certificate"
    );
    let fingerprint = &keys[winner].spki_sha256()[..16];
    let loser = answers.iter().find(|(status, _)| *status == StatusCode::CONFLICT).expect("a loser");
    assert!(message(&loser.1).contains(fingerprint), "{}", loser.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_many_times_at_once_gets_one_certificate() {
    let h = Harness::start().await;
    let (_, jwt) = token(&h, "node").await;
    let key = key::generate().expect("key");
    let answers = futures::future::join_all((0..16).map(|_| h.redeem(&jwt, &key))).await;
    assert!(
        answers.iter().all(|(status, answer)| *status == StatusCode::OK && answer == &answers[0].1),
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_redemption_outlives_a_restart() {
    let mut h = Harness::start().await;
    let (_, jwt) = token(&h, "node").await;
    let key = key::generate().expect("key");
    let (_, first) = h.redeem(&jwt, &key).await;
    h.stop().await;
    h.resume().await;
    assert_eq!(h.redeem(&jwt, &key).await, (StatusCode::OK, first));
    assert_eq!(h.redeem(&jwt, &key::generate().expect("key")).await.0, StatusCode::CONFLICT);
}

async fn rotate(h: &mut Harness, step: &str, force: bool) -> (StatusCode, Value) {
    let answer = h.request(Method::POST, "/ca/rotate", Some(&json!({ "step": step, "force": force }))).await;
    // The controller may show a certificate of the other CA from now on.
    let base = h.running().url().to_owned();
    h.connect(&base).await;
    answer
}

#[tokio::test]
async fn an_answer_that_was_lost_before_a_rotation_is_given_again_if_it_is_of_use() {
    let mut h = Harness::start().await;
    let (_, of_the_old) = token(&h, "early").await;
    let early = key::generate().expect("key");
    let (status, first) = h.redeem(&of_the_old, &early).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    for step in ["start", "issue"] {
        assert_eq!(rotate(&mut h, step, true).await.0, StatusCode::OK);
    }
    assert_eq!(h.redeem(&of_the_old, &early).await.1["data"]["cert"], first["data"]["cert"], "it counts yet");
    // Its token is of the new CA, its certificate of the old one.
    let (_, jwt) = token(&h, "between").await;
    assert_eq!(rotate(&mut h, "rollback", false).await.0, StatusCode::OK);
    let between = key::generate().expect("key");
    let (status, lost) = h.redeem(&jwt, &between).await;
    assert_eq!(status, StatusCode::OK, "{lost}");
    assert_eq!(rotate(&mut h, "issue", true).await.0, StatusCode::OK);
    let (status, answer) = rotate(&mut h, "finish", false).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(message(&answer).contains("early") && message(&answer).contains("between"), "{answer}");
    assert_eq!(rotate(&mut h, "finish", true).await.0, StatusCode::OK);

    // Its token pins a CA that is gone: the node would not even talk to this controller.
    let (status, answer) = h.redeem(&of_the_old, &early).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "INVALID_ENROLLMENT_TOKEN"), "{answer}");
    assert!(message(&answer).contains("has been replaced since: ask for a new token"), "{answer}");
    // This one is of use, so the key gets a certificate that is, too, and no other key does.
    let (status, again) = h.redeem(&jwt, &between).await;
    assert_eq!(status, StatusCode::OK, "{again}");
    assert_ne!(again["data"]["cert"], lost["data"]["cert"]);
    let file = crate::support::identity_file(h.running().url(), &again["data"], &between);
    let answer = h.client_of(&file).get(h.url("/edge/client/v1/version")).send().await;
    assert!(answer.is_ok_and(|a| a.status() == StatusCode::OK), "the certificate opens a connection");
    assert_eq!(h.redeem(&jwt, &between).await, (StatusCode::OK, again), "from now on this one");
    assert_eq!(h.redeem(&jwt, &key::generate().expect("key")).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_certificate_that_was_revoked_is_not_given_again() {
    let h = Harness::start().await;
    let (id, jwt) = token(&h, "node").await;
    let key = key::generate().expect("key");
    assert_eq!(h.redeem(&jwt, &key).await.0, StatusCode::OK);
    let serial = h.get(&format!("/identities/{id}/enrollments")).await[0]["serial"].clone();
    let path = format!("/certificates/{}/revoke", serial.as_str().expect("serial"));
    assert_eq!(h.request(Method::POST, &path, None).await.0, StatusCode::OK);
    let (status, answer) = h.redeem(&jwt, &key).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "INVALID_ENROLLMENT_TOKEN"), "{answer}");
    assert!(message(&answer).contains("was revoked: ask for a new token"), "{answer}");
}

#[tokio::test]
async fn bad_tokens_are_told_apart() {
    let h = Harness::start().await;
    let (id, jwt) = token(&h, "node").await;
    let key = key::generate().expect("key");
    let parts: Vec<&str> = jwt.split('.').collect();
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = encode(json!({ "alg": "none", "typ": "hesper-enrollment+jwt" }));
    let claims = token::read_enrollment(&jwt, 0).expect("claims");
    let stranger = Signer::generate().expect("signer");
    let signer = Signer::load(&h.home().join("pki/tokens.key")).expect("the controller's signer");
    let expired = token::EnrollmentClaims { exp: 1_700_000_000, ..claims.clone() };
    let unknown = token::EnrollmentClaims { jti: "0".repeat(32), ..claims.clone() };
    let foreign = token::EnrollmentClaims { sub: "somebody-else".into(), ..claims.clone() };
    let other_ca = token::EnrollmentClaims { ca_sha256: "0".repeat(64), ..claims.clone() };
    let sign = |claims| signer.sign(claims).expect("token");
    let mut changed: Vec<u8> = URL_SAFE_NO_PAD.decode(parts[2]).expect("signature");
    changed[0] ^= 1;
    let flipped = format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(changed));
    let cases = [
        ("not a token", "hello".to_owned(), "INVALID_ENROLLMENT_TOKEN"),
        ("truncated", jwt[..jwt.len() - 20].to_owned(), "INVALID_ENROLLMENT_TOKEN"),
        ("alg none", format!("{none}.{}.", parts[1]), "INVALID_ENROLLMENT_TOKEN"),
        ("signed by a stranger", stranger.sign(&claims).expect("token"), "INVALID_ENROLLMENT_TOKEN"),
        ("changed signature", flipped, "INVALID_ENROLLMENT_TOKEN"),
        ("unknown enrollment", sign(&unknown), "INVALID_ENROLLMENT_TOKEN"),
        ("another subject", sign(&foreign), "INVALID_ENROLLMENT_TOKEN"),
        ("another CA", sign(&other_ca), "INVALID_ENROLLMENT_TOKEN"),
        ("expired", sign(&expired), "ENROLLMENT_EXPIRED"),
    ];
    let mut messages = BTreeMap::new();
    for (name, token, expected) in &cases {
        let (status, answer) = h.redeem(token, &key).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, *expected), "{name}: {answer}");
        if let Some(other) = messages.insert(message(&answer).to_owned(), *name) {
            // A truncated signature and a changed one are both no signature.
            assert_eq!((other, *name), ("truncated", "changed signature"), "{answer}");
        }
    }
    assert_eq!(h.redeem(&jwt, &key).await.0, StatusCode::OK, "the token itself is still good");
    let audit = std::fs::read_to_string(h.home().join("audit.jsonl")).expect("audit file");
    let outcomes =
        |wanted: &str| audit.lines().filter(|l| l.contains("\"enrollment\"") && l.contains(wanted)).count();
    assert_eq!((outcomes("\"denied\""), outcomes("\"success\"")), (cases.len(), 1));
    assert!(!audit.contains(&jwt) && audit.contains(&id));
}

#[tokio::test]
async fn bad_requests_for_a_certificate_are_refused_and_the_token_stays_good() {
    let h = Harness::start().await;
    let (_, jwt) = token(&h, "node").await;
    let enroll = async |body: Value| {
        let request = h.client.post(h.url("/edge/client/v1/enroll")).json(&body);
        crate::support::read(request.send().await.expect("answer")).await
    };
    for body in
        [json!({}), json!({ "token": jwt }), json!({ "token": jwt, "csr": "x", "extra": 1 }), json!([])]
    {
        let (status, answer) = enroll(body).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "COULD_NOT_VALIDATE"), "{answer}");
    }
    let (status, answer) = enroll(json!({ "token": jwt, "csr": "x" })).await;
    assert_eq!(
        (status, &answer["error"]["cause"]["field"]),
        (StatusCode::BAD_REQUEST, &json!("csr")),
        "{answer}"
    );
    assert_eq!(h.redeem(&jwt, &key::generate().expect("key")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_new_enrollment_takes_the_place_of_the_old_one() {
    let h = Harness::start().await;
    let (id, lost) = token(&h, "node").await;
    let made = h.create("enrollments", json!({ "identityId": id, "durationMinutes": 30 })).await;
    let jwt = made["jwt"].as_str().expect("jwt");
    let old_key = key::generate().expect("key");
    let (status, answer) = h.redeem(&lost, &old_key).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "INVALID_ENROLLMENT_TOKEN"), "{answer}");
    assert_eq!(h.redeem(jwt, &old_key).await.0, StatusCode::OK);
    // The key is lost: enrolling anew ends the old certificate.
    let made = h.create("enrollments", json!({ "identityId": id })).await;
    assert_eq!(
        h.redeem(made["jwt"].as_str().expect("jwt"), &key::generate().expect("key")).await.0,
        StatusCode::OK
    );
    assert_eq!(h.get(&format!("/identities/{id}/enrollments")).await.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn deleted_and_disabled_subjects_do_not_enroll() {
    let h = Harness::start().await;
    let (id, jwt) = token(&h, "node").await;
    let path = format!("/identities/{id}");
    h.request(Method::PATCH, &path, Some(&json!({ "disabled": true }))).await;
    let key = key::generate().expect("key");
    assert_eq!(h.redeem(&jwt, &key).await.0, StatusCode::FORBIDDEN);
    h.delete(&path).await;
    let (status, answer) = h.redeem(&jwt, &key).await;
    assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "INVALID_ENROLLMENT_TOKEN"), "{answer}");
}
