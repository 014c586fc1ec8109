//! Tokens: what is signed is accepted, and nothing else ever is.

use crate::forge::*;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use hesper_model::{
    config::otlp::{Limits, SenderRule, SenderTerms, TERMS_LEN_MAX},
    id::MAX_NAME_LEN,
};
use hesper_pki::token::{
    Claims, EnrollmentClaims, GrantClaims, MAX_TOKEN_LEN, PassClaims, SessionClaims, Signer, SignerError,
    TokenError, Verifier, read_enrollment,
};
use proptest::prelude::*;
use ring::hmac;
use serde_json::json;
use std::os::unix::fs::MetadataExt;

/// As long as the controller lets terms be.
fn largest_terms() -> SenderTerms {
    let rule = |n: usize| SenderRule {
        signals: vec![],
        service_names: vec![format!("{n:0100}").parse().unwrap()],
        limits: Limits::default(),
    };
    let mut terms = SenderTerms { config: "c".repeat(MAX_NAME_LEN), ..SenderTerms::default() };
    let len = |terms: &SenderTerms| serde_json::to_vec(terms).unwrap().len();
    for n in 0.. {
        let mut more = terms.clone();
        more.rules.get_or_insert_default().push(rule(n));
        if len(&more) > TERMS_LEN_MAX {
            return terms;
        }
        terms = more;
    }
    unreachable!("there is an end")
}

#[test]
fn each_type_reads_back() {
    let signer = Signer::generate().unwrap();
    let verifier = verifier(&signer);
    assert_eq!(verifier.verify::<GrantClaims>(&signer.sign(&grant()).unwrap(), NOW), Ok(grant()));
    let largest =
        GrantClaims { dialer_name: "n".repeat(MAX_NAME_LEN), otlp: Some(largest_terms()), ..grant() };
    assert_eq!(verifier.verify::<GrantClaims>(&signer.sign(&largest).unwrap(), NOW), Ok(largest));
    let before = GrantClaims { dialer_name: String::new(), ..grant() };
    let claims = serde_json::to_string(&before).unwrap();
    assert!(
        !claims.contains("dialer_name") && !claims.contains("otlp"),
        "as older controllers sign: {claims}"
    );
    assert_eq!(verifier.verify::<GrantClaims>(&signer.sign(&before).unwrap(), NOW), Ok(before));
    assert_eq!(verifier.verify::<SessionClaims>(&signer.sign(&session()).unwrap(), NOW), Ok(session()));
    assert_eq!(verifier.verify::<PassClaims>(&signer.sign(&pass()).unwrap(), NOW), Ok(pass()));
    let token = signer.sign(&enrollment()).unwrap();
    assert_eq!(verifier.verify::<EnrollmentClaims>(&token, NOW), Ok(enrollment()));
    assert_eq!(read_enrollment(&format!(" {token}\n"), NOW), Ok(enrollment()));
}

#[test]
fn a_token_of_one_type_is_never_another() {
    let signer = Signer::generate().unwrap();
    let verifier = verifier(&signer);
    let tokens = [
        (SessionClaims::TYP, signer.sign(&session()).unwrap()),
        (GrantClaims::TYP, signer.sign(&grant()).unwrap()),
        (PassClaims::TYP, signer.sign(&pass()).unwrap()),
        (EnrollmentClaims::TYP, signer.sign(&enrollment()).unwrap()),
    ];
    fn read<C: Claims>(verifier: &Verifier, typ: &str, token: &str) {
        let result = verifier.verify::<C>(token, NOW).map(|_| ());
        let expected = if typ == C::TYP {
            Ok(())
        } else {
            Err(TokenError::Type { expected: C::TYP, found: typ.into() })
        };
        assert_eq!(result, expected);
    }
    for (typ, token) in &tokens {
        read::<SessionClaims>(&verifier, typ, token);
        read::<GrantClaims>(&verifier, typ, token);
        read::<PassClaims>(&verifier, typ, token);
        read::<EnrollmentClaims>(&verifier, typ, token);
    }
}

#[test]
fn the_claims_of_one_type_under_the_header_of_another_are_refused() {
    let forge = Forge::new();
    let token = forge.grant(&serde_json::to_string(&pass()).unwrap());
    assert!(matches!(forge.verifier().verify::<GrantClaims>(&token, NOW), Err(TokenError::Claims(_))));
}

#[test]
fn every_algorithm_but_eddsa_is_refused() {
    let forge = Forge::new();
    let verifier = forge.verifier();
    let claims = serde_json::to_string(&grant()).unwrap();
    for alg in ["none", "None", "NONE", "HS256", "HS512", "ES256", "RS256", "PS256", "eddsa", "Ed25519", ""] {
        let header = json!({ "alg": alg, "typ": GrantClaims::TYP, "kid": KID }).to_string();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&claims));
        // Keyed with what is public: the classic confusion of a public key with a shared secret.
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &forge.public_key()), message.as_bytes());
        let real = forge.0.sign(message.as_bytes());
        for signature in [&b""[..], mac.as_ref(), real.as_ref()] {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(verifier.verify::<GrantClaims>(&token, NOW), Err(TokenError::Algorithm(alg.into())));
        }
    }
    for header in [
        json!({ "typ": GrantClaims::TYP, "kid": KID }),
        json!({ "alg": ["EdDSA"], "typ": GrantClaims::TYP, "kid": KID }),
    ] {
        let token = forge.sign(&header.to_string(), &claims);
        assert!(matches!(verifier.verify::<GrantClaims>(&token, NOW), Err(TokenError::Algorithm(_))));
    }
}

#[test]
fn a_header_with_anything_else_is_refused() {
    let forge = Forge::new();
    let claims = serde_json::to_string(&grant()).unwrap();
    let typ = GrantClaims::TYP;
    for header in [
        format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"k1","crit":["exp"]}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"k1","jwk":{{}}}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"k1","x5u":"https://evil"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"{typ}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":1}}"#),
        format!(r#"{{"alg":"none","alg":"EdDSA","typ":"{typ}","kid":"k1"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"k1"}} x"#),
        "[]".into(),
        String::new(),
    ] {
        let result = forge.verifier().verify::<GrantClaims>(&forge.sign(&header, &claims), NOW);
        assert!(matches!(result, Err(TokenError::NotAJwt(_))), "{header}: {result:?}");
    }
}

#[test]
fn only_the_key_that_the_kid_names_counts() {
    let (forge, other) = (Forge::new(), Forge::new());
    let claims = serde_json::to_string(&grant()).unwrap();
    for kid in ["k2", "", "../../k1", "k1' OR '1'='1", "K1"] {
        let header = json!({ "alg": "EdDSA", "typ": GrantClaims::TYP, "kid": kid }).to_string();
        let result = forge.verifier().verify::<GrantClaims>(&forge.sign(&header, &claims), NOW);
        assert_eq!(result, Err(TokenError::UnknownKey(kid.into())));
    }
    let stranger = other.grant(&claims);
    assert_eq!(forge.verifier().verify::<GrantClaims>(&stranger, NOW), Err(TokenError::Signature));
    let both = Verifier::new([(KID.into(), other.public_key()), ("k0".into(), forge.public_key())]);
    assert_eq!(both.verify(&stranger, NOW), Ok(grant()));
    assert_eq!(both.verify::<GrantClaims>(&forge.grant(&claims), NOW), Err(TokenError::Signature));
}

#[test]
fn exp_is_a_required_whole_number_of_this_age() {
    let forge = Forge::new();
    let verifier = forge.verifier();
    for exp in [
        json!("1800000300"),
        json!(1_800_000_300.0),
        json!(1_800_000_300.5),
        json!(1e300),
        json!(-1),
        json!(null),
        json!(true),
        json!([NOW + 300]),
        json!(u64::MAX),
        json!(253_402_300_800_u64),
    ] {
        let token = forge.grant(&grant_json(|claims| drop(claims.insert("exp".into(), exp.clone()))));
        let result = verifier.verify::<GrantClaims>(&token, NOW);
        assert!(matches!(result, Err(TokenError::Claims(_))), "{exp}: {result:?}");
    }
    let huge = forge.grant(&grant_json(|_| ()).replace("1800000300", "18446744073709551616"));
    assert!(matches!(verifier.verify::<GrantClaims>(&huge, NOW), Err(TokenError::Claims(_))));
    for name in ["exp", "iat", "cnf", "aud"] {
        let token = forge.grant(&grant_json(|claims| drop(claims.remove(name))));
        assert!(matches!(verifier.verify::<GrantClaims>(&token, NOW), Err(TokenError::Claims(_))), "{name}");
    }
}

#[test]
fn a_token_ends_at_exp_and_begins_at_iat_with_leeway() {
    let signer = Signer::generate().unwrap();
    let verifier = verifier(&signer);
    let token = signer.sign(&grant()).unwrap();
    assert!(verifier.verify::<GrantClaims>(&token, NOW + 299).is_ok());
    for late in [NOW + 300, NOW + 301, u64::MAX] {
        assert!(matches!(verifier.verify::<GrantClaims>(&token, late), Err(TokenError::Expired { .. })));
    }
    assert!(verifier.verify::<GrantClaims>(&token, NOW - 30).is_ok());
    for early in [NOW - 31, 0] {
        assert!(matches!(verifier.verify::<GrantClaims>(&token, early), Err(TokenError::NotYetValid { .. })));
    }
    let text = verifier.verify::<GrantClaims>(&token, NOW + 300).unwrap_err().to_string();
    assert_eq!(
        text,
        "the token expired at 2027-01-15T08:05:00Z (the clock of this machine says 2027-01-15T08:05:00Z)"
    );
}

#[test]
fn unknown_doubled_and_trailing_claims_are_refused() {
    let forge = Forge::new();
    let good = grant_json(|_| ());
    let doubled = good.replacen('{', r#"{"sub":"mallory","#, 1);
    let doubled_exp = good.replacen('{', r#"{"exp":9999999999,"#, 1);
    let unknown = good.replacen('{', r#"{"admin":true,"#, 1);
    for claims in
        [doubled, doubled_exp, unknown, format!("{good}{good}"), format!("{good}x"), "{}".into(), "7".into()]
    {
        let result = forge.verifier().verify::<GrantClaims>(&forge.grant(&claims), NOW);
        assert!(matches!(result, Err(TokenError::Claims(_))), "{claims}: {result:?}");
    }
}

#[test]
fn other_spellings_of_a_good_token_are_refused() {
    let forge = Forge::new();
    let verifier = forge.verifier();
    let good = forge.grant(&grant_json(|_| ()));
    assert!(verifier.verify::<GrantClaims>(&good, NOW).is_ok());
    let parts: Vec<&str> = good.split('.').collect();
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    // 64 bytes leave four unused bits in the last character; setting one is another text for the same bytes.
    let mut loose = good.clone().into_bytes();
    let last = loose.pop().unwrap();
    loose.push(match last {
        b'A' => b'B',
        b'Q' => b'R',
        b'g' => b'h',
        b'w' => b'x',
        c => panic!("{c}"),
    });
    for token in [
        format!("{good} "),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{good}="),
        format!("{good}=="),
        format!("{good}."),
        format!("{good}.x"),
        format!(".{good}"),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE.encode(&signature)),
        format!("{}.{}.{}", parts[0], parts[1], STANDARD.encode(&signature)),
        format!("{}.{}.{}\r\n{}", parts[0], parts[1], &parts[2][..40], &parts[2][40..]),
        format!("{}.{}.{}AA", parts[0], parts[1], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}..{}", parts[0], parts[2]),
        format!("..{}", parts[2]),
        String::from_utf8(loose).unwrap(),
        "é.é.é".into(),
    ] {
        let result = verifier.verify::<GrantClaims>(&token, NOW);
        assert!(result.is_err(), "{token:?} was accepted");
    }
}

#[test]
fn a_truncated_token_is_refused_at_every_length() {
    let forge = Forge::new();
    let good = forge.grant(&grant_json(|_| ()));
    for len in 0..good.len() {
        assert!(forge.verifier().verify::<GrantClaims>(&good[..len], NOW).is_err(), "{len} characters");
    }
}

#[test]
fn a_giant_token_is_neither_read_nor_made() {
    let forge = Forge::new();
    let giant =
        forge.grant(&grant_json(|claims| drop(claims.insert("jti".into(), json!("x".repeat(1 << 20))))));
    let refused = Err(TokenError::NotAJwt("it is longer than any token"));
    assert_eq!(forge.verifier().verify::<GrantClaims>(&giant, NOW), refused);
    assert!(matches!(read_enrollment(&".".repeat(1 << 20), NOW), Err(TokenError::NotAJwt(_))));
    let claims = GrantClaims { jti: "x".repeat(MAX_TOKEN_LEN), ..grant() };
    assert!(matches!(Signer::generate().unwrap().sign(&claims), Err(SignerError::TooLong(_))));
}

#[test]
fn an_enrollment_token_tells_its_faults_apart() {
    let forge = Forge::new();
    let read = |token: &str| read_enrollment(token, NOW).unwrap_err();
    let claims = serde_json::to_string(&enrollment()).unwrap();
    let good = forge.sign(&header(EnrollmentClaims::TYP), &claims);
    assert_eq!(read_enrollment(&good, NOW), Ok(enrollment()));
    assert!(matches!(read("hello"), TokenError::NotAJwt(_)));
    for len in 0..good.len() {
        // Never accepted; and the middle of a file cut in half is "not a JWT", not "bad claims".
        let error = read(&good[..len]);
        assert!(matches!(error, TokenError::NotAJwt(_)), "{len}: {error:?}");
    }
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": EnrollmentClaims::TYP }).to_string()),
        URL_SAFE_NO_PAD.encode(&claims)
    );
    assert_eq!(read(&none), TokenError::Algorithm("none".into()));
    let expired = EnrollmentClaims { exp: NOW, ..enrollment() };
    let expired = forge.sign(&header(EnrollmentClaims::TYP), &serde_json::to_string(&expired).unwrap());
    assert!(matches!(read(&expired), TokenError::Expired { .. }));
    // Both times: it may be this machine's clock that is wrong.
    let text = read(&expired).to_string();
    assert!(text.contains("expired at 20") && text.contains("the clock of this machine says 20"), "{text}");
    assert!(matches!(read(&forge.grant(&grant_json(|_| ()))), TokenError::Type { .. }));
    let unpinned = EnrollmentClaims { ca_sha256: "00".into(), ..enrollment() };
    let unpinned = forge.sign(&header(EnrollmentClaims::TYP), &serde_json::to_string(&unpinned).unwrap());
    assert!(matches!(read(&unpinned), TokenError::Claims(_)));
    assert!(matches!(read(&forge.sign(&header(EnrollmentClaims::TYP), "{}")), TokenError::Claims(_)));
}

#[test]
fn the_signing_key_is_kept_in_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.key");
    let signer = Signer::generate().unwrap();
    signer.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert!(
        matches!(Signer::generate().unwrap().save(&path), Err(SignerError::File(e)) if e.already_exists())
    );
    let again = Signer::load(&path).unwrap();
    assert_eq!((again.kid(), again.public_key()), (signer.kid(), signer.public_key()));
    assert!(verifier(&signer).verify::<GrantClaims>(&again.sign(&grant()).unwrap(), NOW).is_ok());
    let body = std::fs::read_to_string(&path).unwrap();
    assert!(!format!("{signer:?}").contains(body.lines().nth(1).unwrap()));

    let other = dir.path().join("p256.key");
    std::fs::write(&other, hesper_pki::key::generate().unwrap().to_pem().as_bytes()).unwrap();
    assert!(matches!(Signer::load(&other), Err(SignerError::Key)));
    std::fs::write(&other, "").unwrap();
    assert!(matches!(Signer::load(&other), Err(SignerError::Key)));
}

#[test]
fn no_single_changed_byte_is_accepted() {
    let forge = Forge::new();
    let verifier = forge.verifier();
    let good = forge.grant(&grant_json(|_| ())).into_bytes();
    for i in 0..good.len() {
        for bit in 0..7 {
            let mut token = good.clone();
            token[i] ^= 1 << bit;
            let token = String::from_utf8(token).unwrap();
            assert!(verifier.verify::<GrantClaims>(&token, NOW).is_err(), "byte {i}, bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn changed_tokens_are_never_accepted(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,4}"), 1..4)
    ) {
        let signer = Signer::generate().unwrap();
        let good = signer.sign(&grant()).unwrap();
        let mut token = good.clone();
        for (from, len, text) in cuts {
            let from = from.index(token.len().max(1)).min(token.len());
            let until = (from + len.index(5)).min(token.len());
            token.replace_range(from..until, &text);
        }
        prop_assume!(token != good);
        prop_assert!(verifier(&signer).verify::<GrantClaims>(&token, NOW).is_err());
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}", now: u64) {
        let verifier = Verifier::default();
        prop_assert!(verifier.verify::<PassClaims>(&text, now).is_err());
        prop_assert!(read_enrollment(&text, now).is_err());
    }

    #[test]
    fn arbitrary_signed_claims_never_panic(claims in ".{0,100}", exp: u64, iat: u64, now: u64) {
        let forge = Forge::new();
        prop_assert!(forge.verifier().verify::<GrantClaims>(&forge.grant(&claims), now).is_err());
        let token = forge.grant(&serde_json::to_string(&GrantClaims { exp, iat, ..grant() }).unwrap());
        let accepted = forge.verifier().verify::<GrantClaims>(&token, now).is_ok();
        prop_assert!(!accepted || (exp > now && iat <= now.saturating_add(30)));
    }
}
