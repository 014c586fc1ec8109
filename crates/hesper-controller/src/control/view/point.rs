//! A router as nodes and other routers are told of it: addresses, and the knock that opens it.

use hesper_model::{
    entity::EdgeRouter,
    id::{EdgeRouterId, Tag},
};
use hesper_overlay::knock;
use hesper_proto::control::{AttachPoint, RouterPeer};
use ring::hmac;

/// A router that nodes may be sent to.
#[derive(Debug, PartialEq)]
pub(super) struct Point {
    name: String,
    addresses: Vec<String>,
    tag: Tag,
    secret: [u8; 32],
    pub(super) online: bool,
    /// Nodes prefer the lowest: usable routers first, then by cost and name.
    pub(super) rank: (bool, u16, String),
}

/// What a router and the controller share.
#[derive(Clone, Copy)]
pub(crate) struct RouterKeys {
    /// The router's tag.
    pub(crate) tag: Tag,
    /// From it knock keys are derived.
    pub(crate) secret: [u8; 32],
}

impl Point {
    /// `usable`: may dials go through it? None = it is not online.
    pub(super) fn new(router: &EdgeRouter, usable: Option<bool>, keys: RouterKeys) -> Self {
        Self {
            name: router.name.clone(),
            addresses: router.addresses.clone(),
            tag: keys.tag,
            secret: keys.secret,
            online: usable.is_some(),
            rank: (usable != Some(true), router.cost, router.name.clone()),
        }
    }

    pub(super) fn for_session(&self, id: &EdgeRouterId, session: Tag) -> AttachPoint {
        let key_id = knock_key_id(&self.secret, NODE_KNOCK, session);
        AttachPoint {
            router_id: id.to_string(),
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            tag: self.tag.0.to_vec(),
            knock_key_id: key_id.to_vec(),
            knock_key: knock::derive(&self.secret, key_id).to_vec(),
        }
    }

    pub(super) fn for_router(&self, id: &EdgeRouterId, other: Tag) -> RouterPeer {
        let key_id = knock_key_id(&self.secret, ROUTER_KNOCK, other);
        RouterPeer {
            router_id: id.to_string(),
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            tag: self.tag.0.to_vec(),
            knock_key_id: key_id.to_vec(),
            knock_key: knock::derive(&self.secret, key_id).to_vec(),
        }
    }
}

/// What key ids of nodes' knocks are derived with, and of routers'.
pub(super) const NODE_KNOCK: &[u8] = b"hesper knock key id";
const ROUTER_KNOCK: &[u8] = b"hesper link knock key id";

/// The key id of the knock of one session or router at the router with this secret. It looks random to everybody else, differs
/// between routers, and is the same after a restart of the controller.
pub(super) fn knock_key_id(secret: &[u8; 32], purpose: &[u8], of: Tag) -> [u8; 8] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(purpose);
    context.update(&of.0);
    let mut id = [0; 8];
    id.copy_from_slice(&context.sign().as_ref()[..8]);
    id
}
