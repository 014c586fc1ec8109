use super::*;
use hesper_pki::token::{PassClaims, Signer};
use proptest::prelude::*;

const NOW: u64 = 1_000_000;
const LIFE: u64 = 300;
const GRACE: u64 = 86_400;
const PEER: PeerId = PeerId(1);

fn dialer() -> Dialer {
    Dialer { id: IdentityId::new("alice"), spki_sha256: "aa11".into() }
}

fn service() -> ServiceId {
    ServiceId::new("metrics")
}

fn terminator() -> TerminatorId {
    TerminatorId::new("t1")
}

fn claims(jti: &str) -> GrantClaims {
    GrantClaims {
        jti: jti.into(),
        sub: IdentityId::new("alice"),
        aud: IdentityId::new("bob"),
        service: service(),
        terminator: terminator(),
        tag: Tag([1; 8]),
        cnf: "aa11".into(),
        dialer_name: String::new(),
        otlp: None,
        iat: NOW,
        exp: NOW + LIFE,
    }
}

fn bob() -> Admission {
    let mut a = Admission::new(IdentityId::new("bob"), GRACE);
    a.bind(terminator(), service());
    a
}

fn admit(a: &mut Admission, now: u64, stream: u64, claims: &GrantClaims) -> Result<(), Rejection> {
    a.admit(now, StreamId(stream), (PEER, &dialer()), (&service(), &terminator()), claims)
}

fn renew(a: &mut Admission, now: u64, claims: &GrantClaims) -> Result<(), Rejection> {
    a.renew(now, (PEER, &dialer()), (&service(), &terminator()), claims)
}

#[test]
fn a_grant_opens_only_what_it_names() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g")).unwrap();
    type Change = fn(&mut GrantClaims);
    let wrong: [(&str, Change); 6] = [
        ("grant is for another hosting identity", |c| c.aud = IdentityId::new("carol")),
        ("for another dialer", |c| c.sub = IdentityId::new("mallory")),
        ("bound to another key", |c| c.cnf = "bb22".into()),
        ("another service or terminator", |c| c.service = ServiceId::new("other")),
        ("another service or terminator", |c| c.terminator = TerminatorId::new("t2")),
        ("not valid", |c| c.exp = NOW),
    ];
    for (text, change) in wrong {
        let mut c = claims("g");
        change(&mut c);
        let e = admit(&mut a, NOW, 2, &c).unwrap_err();
        assert!(e.to_string().contains(text), "{e}");
        assert!(renew(&mut a, NOW, &c).is_err(), "{text}");
    }
    assert_eq!(a.len(), 1);
}

#[test]
fn one_connection_is_one_session_of_the_dialer() {
    let mut a = bob();
    let tag = Tag([1; 8]);
    assert_eq!(a.tag(PEER), None);
    admit(&mut a, NOW, 1, &claims("g")).unwrap();
    assert_eq!(a.tag(PEER), Some(tag));
    let other = GrantClaims { tag: Tag([2; 8]), ..claims("h") };
    assert!(matches!(admit(&mut a, NOW, 2, &other), Err(Rejection::Session)));
    assert!(matches!(renew(&mut a, NOW, &other), Err(Rejection::Session)));
    a.admit(NOW, StreamId(3), (PeerId(2), &dialer()), (&service(), &terminator()), &other).unwrap();
    a.leave(PEER);
    assert_eq!(a.tag(PEER), None);
}

#[test]
fn only_what_is_bound_here_can_be_dialed_and_unbinding_leaves_open_streams() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g")).unwrap();
    a.unbind(&terminator());
    assert_eq!(admit(&mut a, NOW, 2, &claims("g")).unwrap_err().code(), code::INVALID_TERMINATOR);
    renew(&mut a, NOW + 1, &GrantClaims { exp: NOW + 2 * LIFE, ..claims("g2") }).unwrap();
    assert_eq!(a.expire(NOW + LIFE), vec![]);
    a.bind(terminator(), ServiceId::new("another"));
    assert_eq!(admit(&mut a, NOW, 3, &claims("g")).unwrap_err().code(), code::INVALID_TERMINATOR);
}

#[test]
fn a_stream_ends_with_its_grant_unless_renewed() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    assert_eq!(a.expire(NOW + LIFE - 1), vec![]);
    renew(&mut a, NOW + 180, &GrantClaims { exp: NOW + 480, ..claims("g2") }).unwrap();
    renew(&mut a, NOW + 190, &GrantClaims { exp: NOW + 310, ..claims("g3") }).unwrap();
    assert_eq!(a.expire(NOW + 479), vec![], "an older grant never shortens");
    assert_eq!(a.expire(NOW + 480), vec![StreamId(1)]);
    assert!(a.is_empty());
}

#[test]
fn a_renewal_on_other_terms_leaves_the_stream_to_its_own_grant() {
    let terms = |gateway| Some(SenderTerms { gateway, ..SenderTerms::default() });
    let (old, new) = (terms(false), terms(true));
    let granted =
        |jti: &str, otlp: &Option<SenderTerms>, exp| GrantClaims { otlp: otlp.clone(), exp, ..claims(jti) };
    let mut a = bob();
    admit(&mut a, NOW, 1, &granted("g1", &old, NOW + 300)).unwrap();
    renew(&mut a, NOW, &granted("g2", &old, NOW + 400)).unwrap();
    renew(&mut a, NOW, &granted("g3", &new, NOW + 500)).unwrap();
    admit(&mut a, NOW, 2, &granted("g3", &new, NOW + 500)).unwrap();
    assert_eq!(a.revoke(NOW, ["g2"]), [StreamId(1)], "the controller ends those on the old terms");
    assert_eq!(a.len(), 1);
}

#[test]
fn a_renewal_reaches_only_its_own_streams() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    let longer = GrantClaims { exp: NOW + 480, ..claims("g2") };
    a.renew(NOW, (PeerId(2), &dialer()), (&service(), &terminator()), &longer).unwrap();
    assert_eq!(a.expire(NOW + LIFE), vec![StreamId(1)], "another connection of the same dialer");
}

#[test]
fn a_revocation_ends_streams_in_whatever_order_it_comes() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    admit(&mut a, NOW, 2, &claims("g2")).unwrap();
    assert_eq!(a.revoke(NOW, ["g1", "not yet seen"]), vec![StreamId(1)]);
    let late = admit(&mut a, NOW, 3, &claims("not yet seen")).unwrap_err();
    assert_eq!(late.code(), code::GRANT_REVOKED);
    assert!(renew(&mut a, NOW, &claims("g1")).is_err());
    assert_eq!(a.len(), 1, "nothing else is disturbed");
    a.close(StreamId(2));
    assert!(a.is_empty());
}

#[test]
fn all_are_revoked_when_the_node_itself_is_refused() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    admit(&mut a, NOW, 2, &claims("g2")).unwrap();
    assert_eq!(a.revoke_all(NOW), vec![StreamId(1), StreamId(2)]);
    assert_eq!(admit(&mut a, NOW, 3, &claims("g1")).unwrap_err().code(), code::GRANT_REVOKED);
    admit(&mut a, NOW, 4, &claims("g3")).expect("a later grant");
}

#[test]
fn revocations_are_forgotten_only_when_their_grants_are_over() {
    let mut a = bob();
    a.revoke(NOW, ["g"]);
    a.expire(NOW + REMEMBER_REVOKED_SECS - 1);
    assert_eq!(a.revoked.len(), 1);
    a.expire(NOW + REMEMBER_REVOKED_SECS);
    assert_eq!(a.revoked.len(), 0);
    // During an outage an old grant is honoured long after its end: so is the memory of its revocation.
    a.revoke(NOW, ["g"]);
    a.set_controller(false, NOW + 10);
    a.expire(NOW + 10 + GRACE - 1);
    assert!(matches!(admit(&mut a, NOW + 10 + GRACE - 1, 1, &claims("g")), Err(Rejection::Revoked)));
}

#[test]
fn an_outage_keeps_streams_and_lets_in_those_who_were_granted_before() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    a.set_controller(false, NOW + 100);
    a.set_controller(false, NOW + 200);
    let late = NOW + 100 + GRACE - 1;
    assert_eq!(a.frozen_clock(late), Some(NOW + 100));
    assert_eq!(a.expire(late), vec![]);
    admit(&mut a, late, 2, &claims("g1")).unwrap();
    // A grant that had lapsed before the outage stays lapsed.
    assert!(admit(&mut a, late, 3, &GrantClaims { exp: NOW + 100, ..claims("g0") }).is_err());
    assert_eq!(a.expire(late + 1), vec![StreamId(1), StreamId(2)], "after the grace everything fails closed");
    assert!(admit(&mut a, late + 1, 4, &claims("g1")).is_err());
}

#[test]
fn after_an_outage_there_is_time_to_renew_and_no_more() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    a.set_controller(false, NOW + 100);
    a.set_controller(true, NOW + 5000);
    assert_eq!(a.expire(NOW + 5000 + RENEWAL_SLACK_SECS - 1), vec![]);
    // Lost again within the slack: the same outage goes on.
    a.set_controller(false, NOW + 5030);
    assert_eq!(a.expire(NOW + 9000), vec![]);
    a.set_controller(true, NOW + 9000);
    assert_eq!(a.expire(NOW + 9000 + RENEWAL_SLACK_SECS), vec![StreamId(1)]);
    // A flapping link does not stretch the grace of one outage.
    a.set_controller(false, NOW + 20_000);
    assert_eq!(a.frozen_clock(NOW + 20_000 + GRACE), None);
}

#[test]
fn what_was_renewed_between_two_outages_has_the_grace_of_the_second() {
    let mut a = bob();
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    a.set_controller(false, NOW + 100);
    let back = NOW + GRACE - 20;
    a.set_controller(true, back);
    let renewed = GrantClaims { exp: back + LIFE, ..claims("g2") };
    admit(&mut a, back + 1, 2, &renewed).unwrap();
    a.set_controller(false, back + 10);
    assert_eq!(a.expire(NOW + 100 + GRACE - 1), vec![]);
    assert_eq!(
        a.expire(NOW + 100 + GRACE),
        vec![StreamId(1)],
        "never renewed: the grace of the first outage"
    );
    assert_eq!(a.expire(back + 10 + GRACE - 1), vec![]);
    assert_eq!(a.expire(back + 10 + GRACE), vec![StreamId(2)]);
}

#[test]
fn without_grace_an_outage_changes_nothing() {
    let mut a = Admission::new(IdentityId::new("bob"), 0);
    a.bind(terminator(), service());
    admit(&mut a, NOW, 1, &claims("g1")).unwrap();
    a.set_controller(false, NOW + 1);
    assert_eq!(a.frozen_clock(NOW + 2), None);
    assert_eq!(a.expire(NOW + LIFE), vec![StreamId(1)]);
}

#[test]
fn tokens_are_verified_by_key_type_and_time() {
    let signer = Signer::generate().unwrap();
    let verifier = Verifier::new([(signer.kid().to_owned(), signer.public_key())]);
    let grant = signer.sign(&claims("g")).unwrap();
    assert_eq!(Admission::verify(&verifier, &grant, NOW, None).unwrap(), claims("g"));
    let expired = Admission::verify(&verifier, &grant, NOW + LIFE, None);
    assert!(matches!(expired, Err(TokenError::Expired { .. })));
    assert!(Admission::verify(&verifier, &grant, NOW + LIFE, Some(NOW + 1)).is_ok());
    let stranger = Signer::generate().unwrap();
    assert!(Admission::verify(&verifier, &stranger.sign(&claims("g")).unwrap(), NOW, None).is_err());
    let c = claims("g");
    let pass = PassClaims {
        jti: c.jti,
        a: Tag([1; 8]),
        b: Tag([2; 8]),
        paths: vec![],
        cnf: c.cnf,
        iat: c.iat,
        exp: c.exp,
    };
    assert!(Admission::verify(&verifier, &signer.sign(&pass).unwrap(), NOW, None).is_err());
}

proptest! {
    #[test]
    fn a_mutated_grant_is_never_accepted(at in 0usize..2000, with in any::<u8>(), cut in any::<bool>()) {
        let signer = Signer::generate().unwrap();
        let verifier = Verifier::new([(signer.kid().to_owned(), signer.public_key())]);
        let grant = signer.sign(&claims("g")).unwrap();
        let mut bytes = grant.clone().into_bytes();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        if let Ok(text) = String::from_utf8(bytes) && text != grant {
            prop_assert!(Admission::verify(&verifier, &text, NOW, None).is_err(), "{}", text);
        }
    }
}
