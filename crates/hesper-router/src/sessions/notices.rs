//! Who hears that a session is gone or has restarted: the sessions here that have a pair with it, and over links those elsewhere.
//! All of it is a hint: what is dropped, because somebody does not read, is found out end to end, later.

use super::{Attached, Session, Sessions};
use crate::{
    attach::boxed,
    link::Wire,
    table::{Others, Place, RouterIx},
};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_proto::overlay::{
    PeerGone, PeerRestarted, from_router::Message, link_message::Message as LinkWord,
};

/// A notice, as nodes and as other routers hear it.
pub(super) struct Notice {
    node: Message,
    router: LinkWord,
}

pub(super) fn gone_from_here(tag: Tag) -> Notice {
    let gone = PeerGone { tag: tag.0.to_vec() };
    Notice { node: Message::PeerGone(gone.clone()), router: LinkWord::PeerGone(gone) }
}

pub(super) fn restarted(tag: Tag) -> Notice {
    let restarted = PeerRestarted { tag: tag.0.to_vec() };
    Notice { node: Message::PeerRestarted(restarted.clone()), router: LinkWord::PeerRestarted(restarted) }
}

impl Sessions {
    /// A link is up with the router at `place`. `None`: there is no room for another router.
    pub(crate) fn link_up(&self, id: &EdgeRouterId, place: Place, wire: Wire) -> Option<(RouterIx, u64)> {
        let up = self.links.up(id, place, wire)?;
        self.bump();
        Some(up)
    }

    /// That link is down. Nobody is told: it says nothing about who is behind it, who may be back in a moment. Nodes find out
    /// end to end, and the controller hears of it.
    pub(crate) fn link_down(&self, ix: RouterIx, epoch: u64) {
        self.links().down(ix, epoch);
        self.plane().table_mut().link_down(ix, epoch);
        self.bump();
    }

    /// The router of this link says that a session is no longer attached there.
    pub(crate) fn gone_there(&self, ix: RouterIx, epoch: u64, tag: Tag) {
        let attached = self.attached();
        let mut table = self.plane.table_mut();
        let concerned = table.over_link(ix, tag);
        if !concerned.is_empty() {
            table.set_absent(ix, epoch, tag, true);
        }
        drop(table);
        attached.tell(&concerned, &gone_from_here(tag));
    }

    /// The router of this link says that the identity of a session has attached there as another session.
    pub(crate) fn restarted_there(&self, ix: RouterIx, tag: Tag) {
        let attached = self.attached();
        let concerned = self.plane.table().over_link(ix, tag);
        attached.tell(&concerned, &restarted(tag));
    }

    pub(super) fn tell_others(&self, attached: &Attached, others: &Others, notice: &Notice) {
        attached.tell(&others.sessions, notice);
        self.links.tell(&others.links, &notice.router);
    }
}

impl Attached {
    pub(super) fn tell(&self, sessions: &[Tag], notice: &Notice) {
        for session in sessions.iter().filter_map(|tag| self.sessions.get(tag)) {
            session.send(notice.node.clone());
        }
    }

    /// These pairs are closed: what the two might still tell each other does not come through any more. Other routers that had them
    /// open close them by themselves.
    pub(super) fn tell_apart(&self, pairs: &[(Tag, Tag)]) {
        for (a, b) in pairs {
            self.tell(&[*a], &gone_from_here(*b));
            self.tell(&[*b], &gone_from_here(*a));
        }
    }
}

impl Session {
    /// A notice: dropped if the node does not read what it is sent; it then finds out by itself, later.
    pub(super) fn send(&self, message: Message) {
        if self.outbox.try_send(boxed(message)).is_err() {
            tracing::debug!("a node does not read its notices");
        }
    }
}
