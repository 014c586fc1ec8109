//! Sessions whose identity has attached as another one, and that have been asked whether they are still there.

use super::{Attached, Sessions, notices::restarted, signs};
use crate::doubt::Settled;
use hesper_model::id::Tag;
use hesper_proto::overlay::{Pong, from_router::Message};

impl Attached {
    /// The identity of these sessions has attached as another one. Those that are not being asked already are asked, by a message of
    /// which QUIC must acknowledge the receipt. Is there anything to wait for?
    pub(super) fn doubt(&mut self, older: &[Tag]) -> bool {
        for tag in older {
            let Some(session) = self.sessions.get_mut(tag) else { continue };
            if session.doubt.arise(signs(&session.connection), session.connection.rtt()) {
                session.send(Message::Pong(Pong { nonce: 0 }));
                self.doubted.insert(*tag);
            }
        }
        !self.doubted.is_empty()
    }
}

impl Sessions {
    /// Returns as soon as a session is doubted, as [`Sessions::is_doubting`] says from then on.
    pub(crate) async fn doubts_arise(&self) {
        self.doubts.notified().await;
    }

    /// Has any session been asked whether it is there?
    pub(crate) fn is_doubting(&self) -> bool {
        !self.attached().doubted.is_empty()
    }

    /// Looks who has answered, every [`crate::doubt::LOOK`]; the peers of those who have not are told of a restart.
    pub(crate) fn settle_doubts(&self) {
        let mut attached = self.attached();
        let mut gone = Vec::new();
        let Attached { sessions, doubted, .. } = &mut *attached;
        doubted.retain(|tag| {
            let session = sessions.get_mut(tag);
            let settled = session.map_or(Some(Settled::There), |s| s.doubt.look(signs(&s.connection)));
            if settled == Some(Settled::Gone) {
                gone.push(*tag);
            }
            settled.is_none()
        });
        for tag in gone {
            self.metrics().restarted.inc();
            let others = self.plane.table().others(tag);
            self.tell_others(&attached, &others, &restarted(tag));
        }
    }
}
