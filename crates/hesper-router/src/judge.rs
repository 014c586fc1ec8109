//! What becomes of one datagram: forwarded, handed to the router's own QUIC endpoint, or dropped for a reason. Pure.

use crate::{
    drops::DropReason,
    issued::IssuedIds,
    replay::{ReplayFilter, Seen},
    table::{Place, Route, Table},
};
use hesper_model::id::Tag;
use hesper_overlay::{
    cid::CID_LEN,
    header::{self, Dcid},
    knock,
};
use std::net::SocketAddr;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it there, as it is.
    To(Place),
    /// For the router's own endpoint.
    Mine,
    /// Drop and count.
    Drop(DropReason),
}

/// Everything a verdict depends on, for the datagrams of one receive call.
pub(crate) struct Judge<'a> {
    pub(crate) table: &'a Table,
    /// Verifies knocks; `None` until the controller has said who this router is.
    pub(crate) knock_secret: Option<&'a [u8; 32]>,
    pub(crate) knocks: &'a mut ReplayFilter,
    pub(crate) issued: &'a IssuedIds,
    /// Seconds since the epoch.
    pub(crate) now: u64,
}

impl Judge<'_> {
    /// Judges datagrams that came from `source`, one after the other; neighbours with the same destination cost one look-up.
    pub(crate) fn of(&mut self, source: SocketAddr) -> impl FnMut(&[u8]) -> Verdict {
        let mut last: Option<(Tag, Verdict)> = None;
        move |datagram| {
            let Some(header) = header::parse(datagram) else { return Verdict::Drop(DropReason::Malformed) };
            let Some(secret) = self.knock_secret else { return Verdict::Drop(DropReason::NotReady) };
            let tag = match header.dcid {
                Dcid::Knock(knock) => return self.knocked(secret, &knock, source),
                Dcid::Tag(tag) => tag,
            };
            if let Some((before, verdict)) = last
                && before == tag
            {
                return verdict;
            }
            let verdict = match self.table.route(source, tag, self.now) {
                Route::To(place) => Verdict::To(place),
                Route::Drop(reason) => Verdict::Drop(reason),
                Route::Mine { known: true } => Verdict::Mine,
                // Each one on its own: a good connection id says nothing about its neighbour.
                Route::Mine { known: false } => return self.strange(datagram, header.long),
            };
            last = Some((tag, verdict));
            verdict
        }
    }

    fn knocked(&mut self, secret: &[u8; 32], knock: &[u8; 20], source: SocketAddr) -> Verdict {
        if !knock::verify(secret, knock, self.now) {
            return Verdict::Drop(DropReason::KnockInvalid);
        }
        match self.knocks.check(knock, source, self.now) {
            Seen::Good => Verdict::Mine,
            Seen::Replayed => Verdict::Drop(DropReason::KnockReplayed),
            Seen::TooMany => Verdict::Drop(DropReason::KnockTooMany),
        }
    }

    /// To the router's tag from an address that is not (or not yet, or no longer) a session's: a handshake that began with a
    /// knock, or a node whose address changed. Both use connection ids that were issued here.
    fn strange(&self, datagram: &[u8], long: bool) -> Verdict {
        let at = if long { 6 } else { 1 };
        match datagram.get(at..at + CID_LEN).and_then(|id| id.try_into().ok()) {
            Some(id) if self.issued.issued(id) => Verdict::Mine,
            _ => Verdict::Drop(DropReason::ForeignConnectionId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Pass, Ways};

    const OWN: Tag = Tag(*b"a-router");
    const A: Tag = Tag(*b"dialer-a");
    const B: Tag = Tag(*b"binder-b");
    const NOW: u64 = 10_000;
    const SECRET: [u8; 32] = [3; 32];

    struct World {
        table: Table,
        knocks: ReplayFilter,
        issued: IssuedIds,
        ready: bool,
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn at(port: u16) -> Place {
        Place { address: from(port), local_ip: None }
    }

    impl World {
        /// A at port 1, B at port 2, the pair open.
        fn new() -> Self {
            let mut table = Table::new(0);
            table.set_own(OWN);
            table.attach(A, 1, at(1));
            table.attach(B, 2, at(2));
            let ways = Ways::Dialer { direct: true, over: vec![] };
            table.open(Pass { id: "p".into(), a: A, b: B, exp: NOW + 100, ways, token: None }).unwrap();
            Self { table, knocks: ReplayFilter::default(), issued: IssuedIds::new(), ready: true }
        }

        fn judge(&mut self, source: SocketAddr, datagrams: &[Vec<u8>]) -> Vec<Verdict> {
            let mut judge = Judge {
                table: &self.table,
                knock_secret: self.ready.then_some(&SECRET),
                knocks: &mut self.knocks,
                issued: &self.issued,
                now: NOW,
            };
            let mut of = judge.of(source);
            datagrams.iter().map(|d| of(d)).collect()
        }

        fn one(&mut self, source: SocketAddr, datagram: Vec<u8>) -> Verdict {
            self.judge(source, &[datagram])[0]
        }
    }

    fn short(dcid: &[u8]) -> Vec<u8> {
        [&[0x41], dcid, b"sealed"].concat()
    }

    fn long(version: u32, dcid: &[u8]) -> Vec<u8> {
        let scid = [7; CID_LEN];
        [&[0xc3], &version.to_be_bytes()[..], &[dcid.len() as u8], dcid, &[scid.len() as u8], &scid].concat()
    }

    fn cid(tag: Tag, rest: u8) -> Vec<u8> {
        [&tag.0[..], &[rest; 8]].concat()
    }

    fn knock(nonce: u16) -> [u8; 20] {
        knock::make([1; 8], &knock::derive(&SECRET, [1; 8]), NOW, nonce)
    }

    #[test]
    fn a_batch_is_judged_datagram_by_datagram() {
        let mut world = World::new();
        let batch =
            [short(&cid(B, 1)), short(&cid(B, 2)), short(&cid(OWN, 3)), long(1, &cid(B, 4)), vec![0; 30]];
        let to_b = Verdict::To(at(2));
        let expected = [to_b, to_b, Verdict::Mine, to_b, Verdict::Drop(DropReason::Malformed)];
        assert_eq!(world.judge(from(1), &batch), expected);
    }

    #[test]
    fn a_good_knock_opens_once() {
        let mut world = World::new();
        assert_eq!(world.one(from(9), long(1, &knock(0))), Verdict::Mine);
        assert_eq!(world.one(from(9), long(1, &knock(0))), Verdict::Mine, "repeated by its sender");
        assert_eq!(world.one(from(8), long(1, &knock(0))), Verdict::Drop(DropReason::KnockReplayed));
        let mut wrong = knock(1);
        wrong[19] ^= 1;
        assert_eq!(world.one(from(9), long(1, &wrong)), Verdict::Drop(DropReason::KnockInvalid));
        assert_eq!(world.one(from(9), long(0x6b33_43cf, &knock(2))), Verdict::Drop(DropReason::Malformed));
        assert_eq!(world.one(from(9), short(&knock(2)[..])), Verdict::Drop(DropReason::UnknownSource));
    }

    #[test]
    fn from_strangers_only_connection_ids_issued_here_are_ours() {
        let mut world = World::new();
        let ours = world.issued.make(OWN);
        for packet in [short(&ours), long(1, &ours)] {
            assert_eq!(world.one(from(9), packet), Verdict::Mine);
        }
        let foreign = Verdict::Drop(DropReason::ForeignConnectionId);
        let batch = [short(&ours), short(&cid(OWN, 1)), long(1, &cid(OWN, 1)), short(&ours)];
        assert_eq!(world.judge(from(9), &batch), [Verdict::Mine, foreign, foreign, Verdict::Mine]);
        assert_eq!(
            world.one(from(1), short(&cid(OWN, 1))),
            Verdict::Mine,
            "an attached node's address is enough"
        );
    }

    #[test]
    fn nothing_passes_before_the_router_knows_who_it_is() {
        let mut world = World::new();
        world.ready = false;
        for packet in [short(&cid(B, 1)), long(1, &knock(0)), long(1, &cid(OWN, 1))] {
            assert_eq!(world.one(from(1), packet), Verdict::Drop(DropReason::NotReady));
        }
    }
}
