//! Two routers: what a pass over a link opens, and what it does not.

use super::*;

const A: Tag = Tag(*b"dialer-a");
const B: Tag = Tag(*b"binder-b");
const C: Tag = Tag(*b"binder-c");
const NOW: u64 = 1_000;

fn at(port: u16) -> Place {
    Place { address: SocketAddr::from(([192, 0, 2, 1], port)), local_ip: None }
}

fn dialed(id: &str, direct: bool, over: &[RouterIx]) -> Pass {
    let ways = Ways::Dialer { direct, over: over.to_vec() };
    Pass { id: id.into(), a: A, b: B, exp: 1_300, ways, token: Some(format!("token {id}").into()) }
}

fn handed(id: &str, by: RouterIx) -> Pass {
    Pass { id: id.into(), a: A, b: B, exp: 1_300, ways: Ways::Link(by), token: None }
}

fn route(t: &Table, port: u16, to: Tag) -> Route {
    t.route(at(port).address, to, NOW)
}

/// With the links two (at port 22) and three (at port 33) up.
fn table() -> (Table, RouterIx, RouterIx) {
    let mut t = Table::new(0);
    t.set_own(Tag(*b"a-router"));
    let two = t.router(&EdgeRouterId::new("r2")).unwrap();
    let three = t.router(&EdgeRouterId::new("r3")).unwrap();
    assert_eq!(t.router(&EdgeRouterId::new("r2")), Some(two), "a router keeps its number");
    t.link_up(two, 1, at(22));
    t.link_up(three, 2, at(33));
    (t, two, three)
}

const GONE: Route = Route::Drop(DropReason::DestinationNotAttached);

#[test]
fn the_dialers_router_takes_the_first_link_that_is_up() {
    let (mut t, two, three) = table();
    t.attach(A, 1, at(1));
    t.open(dialed("p", false, &[two, three])).unwrap();
    assert!(!t.take_used(two));
    assert_eq!(route(&t, 1, B), Route::To(at(22)));
    assert!(t.take_used(two) && !t.take_used(two) && !t.take_used(three));
    assert_eq!(route(&t, 22, A), Route::To(at(1)), "and back");
    assert_eq!(route(&t, 33, A), Route::To(at(1)), "the binder chooses its way");
    assert!(t.link_down(two, 1) && !t.link_down(two, 9));
    assert_eq!(route(&t, 22, A), Route::Drop(DropReason::UnknownSource), "a link that is down is a stranger");
    assert_eq!(route(&t, 1, B), Route::To(at(33)));
    assert!(t.link_down(three, 2));
    assert_eq!(route(&t, 1, B), GONE, "open, but nowhere to go");
    t.link_up(two, 3, at(24));
    assert_eq!(route(&t, 1, B), Route::To(at(24)), "nothing was closed");
    assert_eq!(t.to_hand_over(two), [("token p".into(), B)]);
}

#[test]
fn routers_that_stop_or_do_not_have_the_binder_come_last() {
    let (mut t, two, three) = table();
    t.attach(A, 1, at(1));
    t.open(dialed("p", false, &[two, three])).unwrap();
    t.link_draining(two, 1);
    assert_eq!(route(&t, 1, B), Route::To(at(33)));
    t.set_absent(three, 2, B, true);
    assert_eq!(route(&t, 1, B), Route::To(at(22)), "rather a router that stops");
    t.set_absent(two, 1, B, true);
    t.set_absent(two, 7, B, false);
    assert_eq!(route(&t, 1, B), Route::To(at(33)), "they may be wrong");
    t.set_absent(two, 1, B, false);
    t.link_up(two, 3, at(22));
    assert_eq!(route(&t, 1, B), Route::To(at(22)), "a new link begins anew");
}

#[test]
fn the_binders_router_lets_in_what_the_link_handed_over_and_nothing_else() {
    let (mut t, two, three) = table();
    t.attach(B, 1, at(2));
    t.attach(C, 2, at(3));
    assert_eq!(route(&t, 22, B), Route::Drop(DropReason::LinkPairClosed));
    t.open(handed("p", two)).unwrap();
    assert_eq!(route(&t, 22, B), Route::To(at(2)));
    assert_eq!(route(&t, 2, A), Route::To(at(22)), "and back");
    for (why, port, to) in [
        ("another link", 33, B),
        ("another session", 22, C),
        ("who is behind the same link", 22, A),
        ("nobody", 22, Tag(*b"nobody--")),
    ] {
        assert_eq!(route(&t, port, to), Route::Drop(DropReason::LinkPairClosed), "{why}");
    }
    t.attach(A, 3, at(1));
    assert_eq!(route(&t, 1, B), Route::Drop(DropReason::PairClosed), "A has shown no pass here");
    assert_eq!(route(&t, 2, A), Route::To(at(22)), "so nothing goes there either");
    t.detach(B, 1);
    assert_eq!(route(&t, 22, B), GONE);
    t.attach(B, 4, at(4));
    assert_eq!(t.others(B), Others { sessions: vec![A], links: vec![two] });
    assert_eq!((t.over_link(two, A), t.over_link(three, A), t.over_link(two, B)), (vec![B], vec![], vec![]));
    assert!(t.revoke_pass("p").is_some());
    assert_eq!(route(&t, 22, B), Route::Drop(DropReason::LinkPairClosed));
    assert_eq!(route(&t, 4, A), Route::Drop(DropReason::PairClosed));
}

#[test]
fn nothing_goes_from_link_to_link() {
    let (mut t, two, three) = table();
    // The dialer is here too, and its binder behind the third router; what comes from the second may not follow it there.
    t.attach(A, 1, at(1));
    t.open(dialed("p", false, &[three])).unwrap();
    t.open(handed("p", two)).unwrap();
    assert_eq!(route(&t, 1, B), Route::To(at(33)));
    assert_eq!(route(&t, 22, B), GONE, "the binder is not here");
    assert_eq!(route(&t, 22, A), Route::Drop(DropReason::LinkPairClosed));
}

#[test]
fn a_pass_presented_twice_holds_until_both_are_revoked_together() {
    let (mut t, two, _) = table();
    t.attach(A, 1, at(1));
    t.attach(B, 2, at(2));
    t.open(dialed("p", true, &[])).unwrap();
    t.open(handed("p", two)).unwrap();
    assert_eq!((t.open_pairs(), t.passes.len(), t.held.len()), (1, 2, 2));
    assert_eq!(route(&t, 1, B), Route::To(at(2)));
    assert_eq!(route(&t, 2, A), Route::To(at(1)), "straight to whom is here");
    t.set_quiet(A, 1, true);
    assert_eq!(route(&t, 2, A), Route::To(at(22)), "who is not heard of here is heard of there");
    t.link_down(two, 1);
    assert_eq!(route(&t, 2, A), Route::To(at(1)), "better than nothing");
    t.set_quiet(A, 1, false);
    assert!(t.revoke_pass("p").is_some());
    assert_eq!(route(&t, 2, A), Route::Drop(DropReason::PairClosed));
    assert_eq!((t.open_pairs(), t.passes.len(), t.held.len(), t.handed), (0, 0, 0, 0));
    assert!(t.links.iter().all(|l| l.inbound.is_empty()));
}

#[test]
fn what_policy_forbids_at_this_router_is_not_joined_here() {
    let (mut t, two, _) = table();
    t.attach(A, 1, at(1));
    t.attach(B, 2, at(2));
    t.open(dialed("p", false, &[two])).unwrap();
    assert_eq!(route(&t, 1, B), Route::To(at(22)), "though the binder is here");
    assert_eq!(route(&t, 2, A), Route::Drop(DropReason::PairClosed));
}

#[test]
fn a_router_and_a_node_never_share_an_address() {
    let (mut t, two, _) = table();
    t.attach(A, 1, at(22));
    t.open(dialed("p", false, &[two])).unwrap();
    assert_eq!(route(&t, 22, B), GONE, "the newcomer has the address; the link is out of reach");
    t.link_moved(two, 1, at(23));
    t.link_moved(two, 8, at(99));
    assert_eq!(route(&t, 22, B), Route::To(at(23)));
    assert_eq!(t.session_at(at(22).address), Some(A));
    assert_eq!(t.session_at(at(23).address), None);
}

#[test]
fn a_link_gives_its_address_to_nobody_who_only_seems_to_be_there() {
    let (mut t, two, _) = table();
    t.attach(A, 1, at(1));
    t.open(dialed("p", false, &[two])).unwrap();
    assert!(t.moved(A, 1, at(22)), "a copy of A's packet came from the link's address");
    assert!(t.is_homeless(A) && !t.is_link_homeless(two));
    assert_eq!(route(&t, 22, A), GONE);
    assert!(t.moved(A, 1, at(1)));
    assert_eq!(route(&t, 1, B), Route::To(at(22)));
    t.attach(C, 2, at(22));
    assert!(t.is_link_homeless(two), "C has shaken hands from there");
    t.link_stayed(two, 1, at(22));
    assert_eq!(route(&t, 1, B), GONE, "C is still there");
    t.detach(C, 2);
    t.link_stayed(two, 9, at(22));
    assert_eq!(route(&t, 1, B), GONE, "another connection has no say");
    t.link_stayed(two, 1, at(22));
    assert_eq!(route(&t, 1, B), Route::To(at(22)));
}
