//! Takes in the links that other routers connect: from those only that the controller names, and whose part it is to connect.

use super::{LinkError, MAX_MESSAGE, converse, hello};
use crate::{links::connects, sessions::Sessions, table::Place};
use hesper_model::id::EdgeRouterId;
use hesper_overlay::{
    frame::{FrameError, read_message, write_message},
    transport::close,
};
use hesper_pki::credentials::PeerIdentity;
use hesper_proto::overlay::{LinkHello, LinkMessage, Refused, link_message::Message};
use quinn::{Connection, RecvStream, SendStream};
use std::time::Duration;
use tokio::time::timeout;

/// A refused router must take the reason within this time.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);

/// Another router that has connected and is wanted.
pub(crate) struct Accepted {
    id: EdgeRouterId,
    place: Place,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

impl Accepted {
    /// Hears the first word of a router that proved itself from `place` with its certificate, and answers.
    pub(crate) async fn new(
        sessions: &Sessions,
        connection: Connection,
        place: Place,
        peer: &PeerIdentity,
    ) -> Result<Self, LinkError> {
        let (mut send, mut recv) = connection.accept_bi().await?;
        let first: LinkMessage = read_message(&mut recv, MAX_MESSAGE).await?;
        let Some(Message::Hello(said)) = first.message else { return Err(LinkError::Unexpected) };
        let id = EdgeRouterId::new(&peer.id.id);
        let own = hello(sessions)?;
        if let Err(reason) = check(sessions, &id, &said) {
            refuse(&connection, &mut send, reason).await;
            return Err(LinkError::NotWanted(reason));
        }
        write_message(&mut send, &own).await?;
        Ok(Self { id, place, connection, send, recv })
    }

    /// Keeps the link until it ends.
    pub(crate) async fn serve(self, sessions: &Sessions) {
        let Self { id, place, connection, send, recv } = self;
        let end = converse(sessions, &id, place, connection, send, recv).await;
        tracing::info!(router = %id, error = &end as &dyn std::error::Error, "no link");
    }
}

/// What keeps a router whose certificate is good from linking.
fn check(sessions: &Sessions, id: &EdgeRouterId, said: &LinkHello) -> Result<(), &'static str> {
    if said.router_id != id.as_str() {
        return Err("its certificate names another router");
    }
    if !sessions.links().wants(id) {
        return Err("the controller has not named this router");
    }
    match sessions.plane().told() {
        Some(told) if connects(id, &told.id) => Ok(()),
        _ => Err("the router with the smaller id connects"),
    }
}

async fn refuse(connection: &Connection, send: &mut SendStream, reason: &'static str) {
    let refused = Message::Refused(Refused { reason: reason.into() });
    let farewell = async {
        write_message(send, &LinkMessage { message: Some(refused) }).await?;
        // Both fail only if the other router is gone already.
        let _ = send.finish();
        let _ = send.stopped().await;
        Ok::<_, FrameError>(())
    };
    let _ = timeout(FAREWELL_DEADLINE, farewell).await;
    connection.close(close::REFUSED, reason.as_bytes());
}
