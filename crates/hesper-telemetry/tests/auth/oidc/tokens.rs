use super::{ISSUER, Signer, authenticator, base64, bearer, claims, claims_with, jwks, now};
use crate::{check, extension, header, reason, until};
use hesper_telemetry::auth::{
    Authenticator,
    server::{Raw, build},
};
use ring::hmac;
use serde_json::{Value, json};
use std::{fs, sync::Arc};
use tempfile::TempDir;

/// An authenticator with the keys in a file.
fn with_file(keys: &str, more: &str, raw: Raw) -> (Arc<dyn Authenticator>, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("jwks.json");
    fs::write(&path, keys).expect("written");
    let text = format!(
        "oidc: {{providers: [{{issuer_url: '{ISSUER}', audience: collector, public_keys_file: '{}'{more}}}]}}",
        path.display()
    );
    (authenticator(&text, raw), dir)
}

#[tokio::test]
async fn every_algorithm_with_a_public_key_is_taken() {
    let signers = [Signer::es256("a"), Signer::es384("b"), Signer::eddsa("c")];
    // Tokens that openssl signed; they end in the year 2100.
    let rsa: Value = serde_json::from_str(include_str!("../rsa.json")).expect("JSON");
    let mut keys: Vec<Value> = signers.iter().map(|signer| signer.jwk.clone()).collect();
    keys.push(rsa["jwk"].clone());
    let (server, _dir) = with_file(&json!({"keys": keys}).to_string(), "", Raw::Forget);
    for signer in &signers {
        let known = check(&*server, &bearer(&signer.token(&claims()))).await.expect(signer.algorithm);
        assert_eq!(known["username"], "user-1");
    }
    let tokens = rsa["tokens"].as_object().expect("tokens");
    assert_eq!(tokens.len(), 6);
    for (algorithm, token) in tokens {
        let token = token.as_str().expect("a token");
        let known = check(&*server, &bearer(token)).await.expect(algorithm);
        assert_eq!(known["subject"], "rsa-user");
        // Another subject under the same signature.
        let (rest, signature) = token.rsplit_once('.').expect("three parts");
        let (head, _) = rest.split_once('.').expect("three parts");
        let forged = format!("{head}.{}.{signature}", base64(claims().to_string()));
        let told = reason(check(&*server, &bearer(&forged)).await.expect_err(algorithm));
        assert!(told.contains("signature"), "{told}");
    }
}

#[tokio::test]
async fn what_a_token_must_say_is_checked() {
    let (signer, stranger) = (Signer::es256("a"), Signer::es256("a"));
    let (server, _dir) = with_file(&jwks(&[&signer]), "", Raw::Forget);
    for (changes, expected) in [
        (json!({}), None),
        (json!({"aud": ["other", "collector"]}), None),
        (json!({"exp": now() - 30}), None),
        (json!({"nbf": now() + 30}), None),
        (json!({"exp": now() - 300}), Some("expired")),
        (json!({"exp": null}), Some("'exp'")),
        (json!({"nbf": now() + 300}), Some("not valid yet")),
        (json!({"aud": "other"}), Some("audience")),
        (json!({"aud": null}), Some("'aud'")),
        (json!({"iss": "https://other.example"}), Some("no provider here")),
        (json!({"iss": null}), Some("who issued it")),
        (json!({"sub": null}), Some("'sub'")),
        (json!({"sub": 7}), Some("'sub'")),
    ] {
        let token = signer.token(&claims_with(&changes));
        let answer = check(&*server, &bearer(&token)).await;
        match expected {
            None => assert!(answer.is_ok(), "{changes}: {answer:?}"),
            Some(expected) => {
                let told = reason(answer.expect_err(expected));
                assert!(told.contains(expected) && !told.contains(&token[..20]), "{changes}: {told}");
            }
        }
    }
    let told = reason(check(&*server, &bearer(&stranger.token(&claims()))).await.expect_err("another key"));
    assert!(told.contains("signature"), "{told}");
}

#[tokio::test]
async fn no_token_without_a_signature_by_a_private_key() {
    let signer = Signer::es256("a");
    let mut keys: Value = serde_json::from_str(&jwks(&[&signer])).expect("JSON");
    keys["keys"]
        .as_array_mut()
        .expect("keys")
        .push(json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": base64("secret")}));
    let (server, _dir) = with_file(&keys.to_string(), "", Raw::Forget);
    let unsigned = |algorithm: &str, id: &str| {
        let header = json!({"alg": algorithm, "kid": id}).to_string();
        format!("{}.{}.", base64(header), base64(claims().to_string()))
    };
    let hashed = |id: &str, secret: &[u8]| {
        let text = unsigned("HS256", id);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, text.trim_end_matches('.').as_bytes());
        format!("{text}{}", base64(tag))
    };
    let public = signer.jwk["x"].as_str().expect("x").as_bytes();
    for token in [
        unsigned("none", "a"),
        unsigned("None", "a"),
        unsigned("ES256", "a"),
        hashed("a", public),
        hashed("s", b"secret"),
        signer.token_with(&json!({"alg": "ES256", "kid": "a", "crit": ["exp"]}), &claims()),
        signer.token_with(&json!({"alg": "ES384", "kid": "a"}), &claims()),
        signer.token_with(&json!({"alg": "RS256", "kid": "a"}), &claims()),
        "a.b.c".into(),
        "x".into(),
        signer.token(&claims_with(&json!({"long": "x".repeat(20_000)}))),
    ] {
        reason(check(&*server, &bearer(&token)).await.expect_err(&token));
    }
    // Without a key id each key of the algorithm is tried.
    let token = signer.token_with(&json!({"alg": "ES256"}), &claims());
    check(&*server, &bearer(&token)).await.expect("the only key");
    check(&*server, &header("authorization", &token)).await.expect_err("no scheme");
}

#[tokio::test]
async fn claims_are_what_is_known_of_the_caller() {
    let signer = Signer::eddsa("a");
    let more = ", username_claim: email, groups_claim: groups, ignore_audience: true";
    let (server, _dir) = with_file(&jwks(&[&signer]), more, Raw::Keep);
    let changes = json!({"aud": null, "email": "a@b.example", "groups": ["dev", "ops"], "level": 3, "big": "x".repeat(4000)});
    let token = signer.token(&claims_with(&changes));
    let known = check(&*server, &bearer(&token)).await.expect("a caller");
    for (name, expected) in [
        ("username", "a@b.example"),
        ("subject", "a@b.example"),
        ("membership", "dev;ops"),
        ("claims.groups", "dev;ops"),
        ("claims.level", "3"),
        ("claims.sub", "user-1"),
        ("raw", &*token),
    ] {
        assert_eq!(known[name], expected, "{name}");
    }
    assert!(!known.contains_key("claims.big"));
    let lonely = signer.token(&claims_with(&json!({"email": "a@b.example"})));
    let told = reason(check(&*server, &bearer(&lonely)).await.expect_err("no groups"));
    assert!(told.contains("groups"), "{told}");
}

#[tokio::test]
async fn the_token_may_stand_in_a_header_of_its_own() {
    let (signer, dir) = (Signer::es256("a"), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("jwks.json");
    fs::write(&path, jwks(&[&signer])).expect("written");
    let text = format!(
        "oidc: {{attribute: X-Id-Token, issuer_url: '{ISSUER}', audience: collector, public_keys_file: '{}'}}",
        path.display()
    );
    let server = authenticator(&text, Raw::Forget);
    let token = signer.token(&claims());
    check(&*server, &header("x-id-token", &token)).await.expect("alone");
    check(&*server, &header("x-id-token", &format!("Bearer {token}"))).await.expect("behind the scheme");
    check(&*server, &bearer(&token)).await.expect_err("another header");
}

#[tokio::test]
async fn keys_in_a_file_are_rotated() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let (server, dir) = with_file(&jwks(&[&old]), "", Raw::Forget);
    let (by_old, by_new) = (bearer(&old.token(&claims())), bearer(&new.token(&claims())));
    check(&*server, &by_old).await.expect("the first key");
    let told = reason(check(&*server, &by_new).await.expect_err("unknown"));
    assert!(told.contains("new"), "{told}");
    fs::write(dir.path().join("jwks.json"), jwks(&[&new])).expect("written");
    until(&*server, &by_new, true).await;
    check(&*server, &by_old).await.expect_err("gone");

    let fault = |keys: &str| {
        fs::write(dir.path().join("jwks.json"), keys).expect("written");
        let path = dir.path().join("jwks.json");
        let text =
            format!("oidc: {{issuer_url: '{ISSUER}', audience: a, public_keys_file: '{}'}}", path.display());
        build(&extension(&text), Raw::Forget).err().expect(keys).to_string()
    };
    for keys in ["", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#] {
        assert!(fault(keys).contains("jwks.json"), "{keys}");
    }
}
