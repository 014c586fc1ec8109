//! Claims of grants, held against a dialer, a binder and a stream.

use crate::NOW;
use hesper_model::id::{IdentityId, ServiceId, TerminatorId};
use hesper_overlay::admission::{Admission, Dialer, PeerId, StreamId};
use hesper_pki::token::GrantClaims;

/// The hosting identity of the corpus.
pub const BINDER: &str = "binder";
/// The dialing identity of the corpus.
pub const DIALER: &str = "dialer";
/// The dialed service.
pub const SERVICE: &str = "service";
/// The dialed terminator.
pub const TERMINATOR: &str = "terminator";
/// The id of a grant that was revoked.
pub const REVOKED: &str = "revoked";
/// SHA-256 of the dialer's key, as text.
pub const KEY: &str = "abababababababababababababababababababababababababababababababab";

/// Claims as JSON, whose signature was good.
///
/// # Panics
/// When they admit what they should not, or do not admit what they should.
pub fn run(claims: &[u8]) {
    let Ok(claims) = serde_json::from_slice::<GrantClaims>(claims) else { return };
    let (service, terminator) = (ServiceId::new(SERVICE), TerminatorId::new(TERMINATOR));
    let dialer = Dialer { id: IdentityId::new(DIALER), spki_sha256: KEY.into() };
    let mut admission = Admission::new(IdentityId::new(BINDER), 0);
    admission.bind(terminator.clone(), service.clone());
    admission.revoke(NOW, [REVOKED]);
    let mut admit = |dialer: &Dialer, stream: u64| {
        let (by, at) = ((PeerId(1), dialer), (&service, &terminator));
        admission.admit(NOW, StreamId(stream), by, at, &claims).is_ok()
    };
    let wanted = claims.aud.as_str() == BINDER
        && claims.sub.as_str() == DIALER
        && claims.cnf == KEY
        && claims.service.as_str() == SERVICE
        && claims.terminator.as_str() == TERMINATOR
        && claims.jti != REVOKED
        && claims.exp > NOW;
    assert_eq!(admit(&dialer, 1), wanted, "{claims:?}");
    let other_key = Dialer { spki_sha256: "cd".repeat(32), ..dialer.clone() };
    let another = Dialer { id: IdentityId::new("another"), ..dialer };
    for stranger in [other_key, another] {
        let same = claims.cnf == stranger.spki_sha256 || claims.sub == stranger.id;
        assert!(same || !admit(&stranger, 2), "{claims:?} by {stranger:?}");
    }
    let open = admission.len();
    assert_eq!(open, usize::from(wanted));
    assert_eq!(admission.expire(claims.exp.max(NOW)).len(), open, "it lives no longer than its grant");
    assert!(admission.is_empty());
}
