//! Who may attach, and which passes open a pair: pure checks of what a node presents against its certificate.
//!
//! A session token is good from its owner only: certificate's identity = `sub`, certificate's key = `cnf`. A pass is good from
//! its dialer only: `a` = the presenter's tag, `cnf` = the presenter's key, this router the first of one of its `paths`; or
//! from the router that is the first of a path of which this one is the second. The binder presents nothing; what the dialer's
//! pass opens is open both ways. Everything is checked offline, with the controller's public keys.

use crate::outage::Outage;
use hesper_model::id::EdgeRouterId;
use hesper_pki::{
    credentials::PeerIdentity,
    spiffe::SpiffeRole,
    token::{Claims, PassClaims, SessionClaims, TokenError, Verifier},
};

/// Why a node is not let in, or its pass opens nothing. The text goes to the node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is not accepted: {1}")]
    Token(&'static str, TokenError),
    #[error("only identities attach to routers, not a {}", .0.as_str())]
    NotAnIdentity(SpiffeRole),
    #[error("the session token belongs to another identity")]
    OtherIdentity,
    #[error("the {0} is bound to another key")]
    OtherKey(&'static str),
    #[error("the session token is for another tag than the one attached with")]
    OtherTag,
    #[error("the pass belongs to another session; only its dialer may present it")]
    OtherDialer,
    #[error("the pass is not for this router")]
    OtherRouter,
    #[error("no path of the pass leads from {0} to this router")]
    OtherPath(EdgeRouterId),
    #[error("the paths of the pass make no sense: {0}")]
    Paths(&'static str),
    #[error("the pass opens nothing: both sides are the same session")]
    SamePeer,
    #[error("the {0} was revoked")]
    Revoked(&'static str),
}

/// Paths in one pass.
const MAX_PATHS: usize = 16;
const SESSION: &str = "session token";
const PASS: &str = "pass";

/// Checks a session token against the certificate that the handshake proved.
pub(crate) fn session(
    token: &str,
    peer: &PeerIdentity,
    verifier: &Verifier,
    outage: &Outage,
    now: u64,
) -> Result<SessionClaims, Refusal> {
    if peer.id.role != SpiffeRole::Identity {
        return Err(Refusal::NotAnIdentity(peer.id.role));
    }
    let claims: SessionClaims =
        verify(token, verifier, outage, now).map_err(|e| Refusal::Token(SESSION, e))?;
    if claims.sub.as_str() != peer.id.id {
        return Err(Refusal::OtherIdentity);
    }
    if claims.cnf != peer.spki_sha256 {
        return Err(Refusal::OtherKey(SESSION));
    }
    Ok(claims)
}

/// Checks a pass that the owner of `presenter` presents to the router `here`.
pub(crate) fn pass(
    token: &str,
    presenter: &SessionClaims,
    here: &EdgeRouterId,
    verifier: &Verifier,
    outage: &Outage,
    now: u64,
) -> Result<PassClaims, Refusal> {
    let claims = any_pass(token, verifier, outage, now)?;
    if claims.a != presenter.tag {
        return Err(Refusal::OtherDialer);
    }
    if claims.cnf != presenter.cnf {
        return Err(Refusal::OtherKey(PASS));
    }
    if !claims.paths.iter().any(|path| path.first() == Some(here)) {
        return Err(Refusal::OtherRouter);
    }
    Ok(claims)
}

/// Checks a pass that the router `from` hands over to the router `here`.
pub(crate) fn handed_pass(
    token: &str,
    from: &EdgeRouterId,
    here: &EdgeRouterId,
    verifier: &Verifier,
    outage: &Outage,
    now: u64,
) -> Result<PassClaims, Refusal> {
    let claims = any_pass(token, verifier, outage, now)?;
    if !claims
        .paths
        .iter()
        .any(|path| matches!(&path[..], [first, second] if first == from && second == here))
    {
        return Err(Refusal::OtherPath(from.clone()));
    }
    Ok(claims)
}

/// Where the binder of a pass may be for the dialer's router `here`: attached here too, and behind links, best first.
pub(crate) fn ways<'a>(claims: &'a PassClaims, here: &EdgeRouterId) -> (bool, Vec<&'a EdgeRouterId>) {
    let of_here = || claims.paths.iter().filter(|path| path.first() == Some(here));
    (of_here().any(|path| path.len() == 1), of_here().filter_map(|path| path.get(1)).collect())
}

fn any_pass(token: &str, verifier: &Verifier, outage: &Outage, now: u64) -> Result<PassClaims, Refusal> {
    let claims: PassClaims = verify(token, verifier, outage, now).map_err(|e| Refusal::Token(PASS, e))?;
    if claims.b == claims.a {
        return Err(Refusal::SamePeer);
    }
    check_paths(&claims.paths).map_err(Refusal::Paths)?;
    Ok(claims)
}

fn check_paths(paths: &[Vec<EdgeRouterId>]) -> Result<(), &'static str> {
    if paths.len() > MAX_PATHS {
        return Err("there are more than 16");
    }
    for (i, path) in paths.iter().enumerate() {
        if !(1..=2).contains(&path.len()) {
            return Err("one has neither one router nor two");
        }
        if path.first() == path.get(1) {
            return Err("one leads from a router to itself");
        }
        if paths[..i].contains(path) {
            return Err("one is there twice");
        }
    }
    Ok(())
}

/// Verifies; a token that lapsed while the controller was away counts as valid as long as the outage honours it.
fn verify<C: Claims>(token: &str, verifier: &Verifier, outage: &Outage, now: u64) -> Result<C, TokenError> {
    match verifier.verify(token, now) {
        Err(TokenError::Expired { at, now: here }) => match u64::try_from(at.unix_timestamp()) {
            Ok(exp) if exp > 0 && outage.honours(exp, now) => verifier.verify(token, exp - 1),
            _ => Err(TokenError::Expired { at, now: here }),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_model::id::{IdentityId, Tag};
    use hesper_pki::{
        spiffe::SpiffeId,
        token::{GrantClaims, Signer},
    };
    use time::OffsetDateTime;

    const NOW: u64 = 1_000_000;
    const A: Tag = Tag(*b"dialer-a");
    const B: Tag = Tag(*b"binder-b");

    fn peer() -> PeerIdentity {
        let id = SpiffeId::new("test", SpiffeRole::Identity, "alice").unwrap();
        let not_after = OffsetDateTime::from_unix_timestamp(NOW as i64 + 1_000).unwrap();
        PeerIdentity { id, spki_sha256: "k1".into(), serial: "1".into(), not_after }
    }

    fn session_claims() -> SessionClaims {
        SessionClaims {
            sub: IdentityId::new("alice"),
            tag: A,
            cnf: "k1".into(),
            iat: NOW - 10,
            exp: NOW + 100,
        }
    }

    fn pass_claims() -> PassClaims {
        let paths = vec![vec![EdgeRouterId::new("r1")], vec![EdgeRouterId::new("r2")]];
        PassClaims { jti: "p".into(), a: A, b: B, paths, cnf: "k1".into(), iat: NOW - 10, exp: NOW + 100 }
    }

    fn verifier(signer: &Signer) -> Verifier {
        Verifier::new([(signer.kid().to_owned(), signer.public_key())])
    }

    fn try_session(change: impl FnOnce(&mut SessionClaims, &mut PeerIdentity)) -> Result<(), Refusal> {
        let signer = Signer::generate().unwrap();
        let (mut claims, mut peer) = (session_claims(), peer());
        change(&mut claims, &mut peer);
        let token = signer.sign(&claims).unwrap();
        session(&token, &peer, &verifier(&signer), &Outage::new(0), NOW).map(|got| assert_eq!(got, claims))
    }

    fn try_pass(change: impl FnOnce(&mut PassClaims)) -> Result<(), Refusal> {
        let signer = Signer::generate().unwrap();
        let mut claims = pass_claims();
        change(&mut claims);
        let token = signer.sign(&claims).unwrap();
        let here = EdgeRouterId::new("r2");
        pass(&token, &session_claims(), &here, &verifier(&signer), &Outage::new(0), NOW)
            .map(|got| assert_eq!(got, claims))
    }

    #[test]
    fn a_session_token_is_good_from_its_owner_only() {
        assert_eq!(try_session(|_, _| ()), Ok(()));
        assert_eq!(try_session(|c, _| c.sub = IdentityId::new("bob")), Err(Refusal::OtherIdentity));
        assert_eq!(try_session(|_, p| p.id.id = "bob".into()), Err(Refusal::OtherIdentity));
        assert_eq!(try_session(|c, _| c.cnf = "k2".into()), Err(Refusal::OtherKey(SESSION)));
        assert_eq!(
            try_session(|_, p| p.id.role = SpiffeRole::Router),
            Err(Refusal::NotAnIdentity(SpiffeRole::Router))
        );
        for late in [try_session(|c, _| c.exp = NOW), try_session(|c, _| c.iat = NOW + 1_000)] {
            assert!(matches!(late, Err(Refusal::Token(SESSION, _))), "{late:?}");
        }
    }

    #[test]
    fn a_pass_is_good_from_its_dialer_at_its_routers_only() {
        assert_eq!(try_pass(|_| ()), Ok(()));
        assert_eq!(try_pass(|c| c.a = Tag(*b"somebody")), Err(Refusal::OtherDialer));
        assert_eq!(try_pass(|c| (c.a, c.b) = (B, A)), Err(Refusal::OtherDialer), "the binder presents none");
        assert_eq!(try_pass(|c| c.cnf = "k2".into()), Err(Refusal::OtherKey(PASS)));
        assert_eq!(try_pass(|c| c.b = A), Err(Refusal::SamePeer));
        assert_eq!(try_pass(|c| c.paths = vec![vec![EdgeRouterId::new("r1")]]), Err(Refusal::OtherRouter));
        assert_eq!(try_pass(|c| c.paths.clear()), Err(Refusal::OtherRouter));
        assert!(matches!(try_pass(|c| c.exp = NOW), Err(Refusal::Token(PASS, TokenError::Expired { .. }))));
        assert_eq!(try_pass(|c| c.paths = paths(&["r2 r3"])), Ok(()));
        assert_eq!(
            try_pass(|c| c.paths = paths(&["r3 r2"])),
            Err(Refusal::OtherRouter),
            "only the first one"
        );
    }

    fn paths(texts: &[&str]) -> Vec<Vec<EdgeRouterId>> {
        texts.iter().map(|t| t.split_whitespace().map(EdgeRouterId::new).collect()).collect()
    }

    #[test]
    fn paths_without_sense_are_refused() {
        let many: Vec<_> = (0..17).map(|i| format!("r2 x{i}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(try_pass(|c| c.paths = paths(&many[..16])), Ok(()));
        for wrong in
            [&many[..], &["r2", ""], &["r2 r3 r4"], &["r2", "r3", "r2"], &["r2 r3", "r2 r3"], &["r2 r2"]]
        {
            let got = try_pass(|c| c.paths = paths(wrong));
            assert!(matches!(got, Err(Refusal::Paths(_))), "{wrong:?}: {got:?}");
        }
    }

    #[test]
    fn a_router_hands_over_only_passes_whose_path_leads_from_it_to_here() {
        let signer = Signer::generate().unwrap();
        let hand = |texts: &[&str], from: &str| {
            let token = signer.sign(&PassClaims { paths: paths(texts), ..pass_claims() }).unwrap();
            let (from, here) = (EdgeRouterId::new(from), EdgeRouterId::new("r2"));
            handed_pass(&token, &from, &here, &verifier(&signer), &Outage::new(0), NOW).map(|_| ())
        };
        assert_eq!(hand(&["r9", "r1 r2"], "r1"), Ok(()));
        for wrong in [&["r2"][..], &["r1"], &["r2 r1"], &["r1 r3"], &["r3 r2"], &[]] {
            assert_eq!(hand(wrong, "r1"), Err(Refusal::OtherPath(EdgeRouterId::new("r1"))), "{wrong:?}");
        }
        assert!(matches!(hand(&["r1 r2", "r1 r2"], "r1"), Err(Refusal::Paths(_))));
    }

    #[test]
    fn the_dialers_router_reads_where_the_binder_may_be() {
        let read = |texts: &[&str]| {
            let claims = PassClaims { paths: paths(texts), ..pass_claims() };
            let (direct, over) = ways(&claims, &EdgeRouterId::new("r2"));
            (direct, over.into_iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read(&["r1", "r2 r9", "r2", "r1 r2", "r2 r5"]), (true, vec!["r9".into(), "r5".into()]));
        assert_eq!(read(&["r2 r9"]), (false, vec!["r9".into()]));
    }

    #[test]
    fn other_keys_and_other_kinds_of_token_are_refused() {
        let (signer, other) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let here = EdgeRouterId::new("r1");
        let check = |token: &str| {
            pass(token, &session_claims(), &here, &verifier(&signer), &Outage::new(0), NOW).unwrap_err()
        };
        let forged = other.sign(&pass_claims()).unwrap();
        assert!(matches!(check(&forged), Refusal::Token(PASS, TokenError::UnknownKey(_))));
        let grant = GrantClaims {
            jti: "p".into(),
            sub: IdentityId::new("alice"),
            aud: IdentityId::new("bob"),
            service: hesper_model::id::ServiceId::new("s"),
            terminator: hesper_model::id::TerminatorId::new("t"),
            tag: A,
            cnf: "k1".into(),
            dialer_name: String::new(),
            otlp: None,
            iat: NOW,
            exp: NOW + 10,
        };
        for token in [signer.sign(&grant).unwrap(), signer.sign(&session_claims()).unwrap()] {
            assert!(matches!(check(&token), Refusal::Token(PASS, TokenError::Type { .. })));
        }
    }

    #[test]
    fn a_pass_that_lapsed_in_an_outage_is_still_honoured_but_checked() {
        let signer = Signer::generate().unwrap();
        let mut outage = Outage::new(500);
        outage.lost(NOW);
        let token = signer.sign(&pass_claims()).unwrap();
        let check = |here: &str, now| {
            pass(&token, &session_claims(), &EdgeRouterId::new(here), &verifier(&signer), &outage, now)
        };
        assert!(check("r1", NOW + 499).is_ok());
        assert!(matches!(check("r1", NOW + 500), Err(Refusal::Token(PASS, TokenError::Expired { .. }))));
        assert_eq!(check("r9", NOW + 499), Err(Refusal::OtherRouter));
    }
}
