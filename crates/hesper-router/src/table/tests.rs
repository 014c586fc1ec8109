use super::*;

const OWN: Tag = Tag(*b"a-router");
const A: Tag = Tag(*b"dialer-a");
const B: Tag = Tag(*b"binder-b");
const C: Tag = Tag(*b"binder-c");
const NOW: u64 = 1_000;

fn at(port: u16) -> Place {
    Place { address: SocketAddr::from(([192, 0, 2, 1], port)), local_ip: None }
}

fn pass(id: &str, a: Tag, b: Tag, exp: u64) -> Pass {
    Pass { id: id.into(), a, b, exp, ways: Ways::Dialer { direct: true, over: vec![] }, token: None }
}

/// A at port 1, B at port 2, the pair open until 1300.
fn table() -> Table {
    let mut t = Table::new(0);
    t.set_own(OWN);
    t.attach(A, 1, at(1));
    t.attach(B, 2, at(2));
    t.open(pass("p", A, B, 1_300)).unwrap();
    t
}

fn sessions(tags: &[Tag]) -> Others {
    Others { sessions: tags.to_vec(), links: vec![] }
}

fn route(t: &Table, port: u16, to: Tag) -> Route {
    t.route(at(port).address, to, NOW)
}

#[test]
fn an_open_pair_passes_both_ways_and_nothing_else_does() {
    let mut t = table();
    assert_eq!(route(&t, 1, B), Route::To(at(2)));
    assert_eq!(route(&t, 2, A), Route::To(at(1)));
    t.attach(C, 3, at(3));
    for (why, port, to, reason) in [
        ("a stranger", 9, B, DropReason::UnknownSource),
        ("no such tag", 1, Tag(*b"nobody--"), DropReason::UnknownTag),
        ("no pass", 1, C, DropReason::PairClosed),
        ("no pass back", 3, A, DropReason::PairClosed),
        ("to itself", 1, A, DropReason::PairClosed),
    ] {
        assert_eq!(route(&t, port, to), Route::Drop(reason), "{why}");
    }
    assert_eq!(route(&t, 1, OWN), Route::Mine { known: true });
    assert_eq!(route(&t, 9, OWN), Route::Mine { known: false });
}

#[test]
fn a_pair_lives_as_long_as_its_longest_pass() {
    let mut t = table();
    let route = |t: &Table, now| t.route(at(1).address, B, now);
    assert_eq!(route(&t, 1_299), Route::To(at(2)));
    assert_eq!(route(&t, 1_300), Route::Drop(DropReason::PairClosed), "also before anything is swept");
    t.open(pass("q", B, A, 1_500)).unwrap();
    assert_eq!(route(&t, 1_499), Route::To(at(2)));
    assert_eq!(t.revoke_pass("q"), None);
    assert_eq!(route(&t, 1_299), Route::To(at(2)), "the other pass still holds it");
    assert_eq!(route(&t, 1_300), Route::Drop(DropReason::PairClosed));
    t.open(pass("p", A, B, 1_600)).unwrap();
    assert_eq!(route(&t, 1_599), Route::To(at(2)), "the same pass, renewed");
    t.open(pass("s", B, A, 1_550)).unwrap();
    assert_eq!(t.expire(1_599), [], "another pass still holds it");
    assert_eq!(t.expire(1_600), [(A, B)]);
    assert_eq!(t.expire(1_700), [], "said once");
    assert_eq!((t.open_pairs(), t.passes.len(), t.peers.len(), t.held.len()), (0, 0, 0, 0));
    assert_eq!(t.revoke_pass("p"), None);
}

#[test]
fn an_address_change_is_followed_and_the_old_address_is_a_stranger() {
    let mut t = table();
    assert!(t.moved(B, 2, at(7)));
    assert!(!t.moved(B, 2, at(7)), "nothing new");
    assert_eq!(route(&t, 1, B), Route::To(at(7)));
    assert_eq!(route(&t, 7, A), Route::To(at(1)));
    assert_eq!(route(&t, 2, A), Route::Drop(DropReason::UnknownSource));
    assert!(!t.moved(B, 1, at(8)), "an older connection has no say");
}

#[test]
fn an_address_that_another_one_took_comes_back_when_it_is_free() {
    let mut t = table();
    assert!(!t.is_homeless(B) && !t.stayed(B, 2, at(2)), "it has its address");
    assert!(t.moved(A, 1, at(2)), "a copy of A's packet came from B's address");
    assert!(t.is_homeless(B) && !t.stayed(B, 2, at(2)), "A is there");
    assert_eq!(route(&t, 1, B), Route::Drop(DropReason::UnknownSource));
    assert!(t.moved(A, 1, at(1)), "A's own next packet");
    assert!(!t.stayed(B, 1, at(2)), "an older connection has no say");
    assert!(t.stayed(B, 2, at(2)));
    assert_eq!(route(&t, 1, B), Route::To(at(2)));
    assert_eq!(route(&t, 2, A), Route::To(at(1)));
}

#[test]
fn a_session_that_attaches_anew_replaces_the_old_one() {
    let mut t = table();
    t.attach(B, 5, at(6));
    assert_eq!(route(&t, 1, B), Route::To(at(6)));
    assert_eq!(t.detach(B, 2), None, "the old connection's end means nothing");
    assert_eq!(route(&t, 1, B), Route::To(at(6)));
    t.attach(B, 4, at(9));
    assert_eq!(route(&t, 1, B), Route::To(at(6)), "a late, older attach means nothing either");
    assert_eq!(t.detach(B, 5), Some(sessions(&[A])), "A has an open pair with it");
    assert_eq!(route(&t, 1, B), Route::Drop(DropReason::DestinationNotAttached));
    t.attach(B, 6, at(2));
    assert_eq!(route(&t, 1, B), Route::To(at(2)), "it comes back to its open pair");
}

#[test]
fn an_address_belongs_to_whom_attached_from_it_last() {
    let mut t = table();
    t.attach(C, 3, at(2));
    assert_eq!(route(&t, 1, B), Route::Drop(DropReason::DestinationNotAttached));
    assert_eq!(route(&t, 2, A), Route::Drop(DropReason::PairClosed), "the source is C now");
    assert!(t.moved(B, 2, at(8)));
    assert_eq!(route(&t, 1, B), Route::To(at(8)));
    assert_eq!(t.detach(B, 2), Some(sessions(&[A])));
    assert_eq!(route(&t, 2, OWN), Route::Mine { known: true }, "C keeps its address");
}

#[test]
fn a_revoked_session_goes_with_all_its_pairs() {
    let mut t = table();
    t.attach(C, 3, at(3));
    t.open(pass("q", C, B, 1_300)).unwrap();
    t.open(pass("r", A, C, 1_300)).unwrap();
    assert_eq!(t.revoke_session(B), sessions(&[C, A]));
    assert_eq!(t.attached(), [C, A]);
    assert_eq!(route(&t, 1, B), Route::Drop(DropReason::UnknownTag));
    assert_eq!(route(&t, 2, A), Route::Drop(DropReason::UnknownSource));
    assert_eq!(route(&t, 1, C), Route::To(at(3)), "only there");
    assert_eq!(t.revoke_session(B), sessions(&[]));
}

#[test]
fn one_session_cannot_use_up_the_room_of_others() {
    let mut t = Table::new(0);
    let peer = |i: usize| Tag((i as u64).to_be_bytes());
    for i in 0..MAX_PASSES_PER_SESSION {
        t.open(pass(&format!("{i}"), A, peer(i), 2_000)).unwrap();
    }
    assert_eq!(t.open(pass("one more", A, B, 2_000)), Err(Full::Session));
    t.open(pass("0", A, peer(0), 3_000)).unwrap();
    t.open(pass("another's", B, A, 2_000)).unwrap();
    t.expire(2_500);
    assert_eq!(t.open_pairs(), 1);
    t.open(pass("one more", A, B, 2_600)).unwrap();
}

#[test]
fn a_pass_outlives_its_time_while_the_controller_is_away() {
    let mut t = Table::new(1_000);
    t.attach(A, 1, at(1));
    t.attach(B, 2, at(2));
    t.open(pass("p", A, B, 1_300)).unwrap();
    t.outage_mut().lost(1_200);
    t.expire(2_199);
    assert_eq!(t.route(at(1).address, B, 2_199), Route::To(at(2)));
    assert_eq!(t.route(at(1).address, B, 2_200), Route::Drop(DropReason::PairClosed), "the grace is over");
    assert!(t.revoke_pass("p").is_some(), "a revocation still ends it at once");
    assert_eq!(t.route(at(1).address, B, 1_250), Route::Drop(DropReason::PairClosed));
}
