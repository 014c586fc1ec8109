//! The QUIC data plane of Hesper: two nodes hold one ordinary end-to-end QUIC connection, and the connection ids carry the route.
//!
//! A router in between sees tags and sizes and can only drop. From the wire upwards:
//! - [`cid`], [`header`], [`knock`]: what a packet says in clear: tags in connection ids, how to read them, how to knock.
//! - [`frame`]: length-prefixed protobuf on attach connections and at the head of streams.
//! - [`transport`]: the one place where QUIC's parameters are chosen, and why. `congestion`: room for probes in a full window.
//! - [`paths`], [`socket`]: QUIC sees one address for everybody; below it, each packet's tag chooses the router.
//! - [`attach`], [`passes`]: the lasting conversation with each router. [`round_trips`]: how far away it is. `roster`, [`attachments`]: with which of them.
//! - [`peer`], [`inbound`]: connections to hosting nodes, and from dialing ones.
//! - [`handshakes`]: how many of them at once. [`memory`]: what peers may make a node hold.
//! - `control`: the first stream of such a connection: renewals of grants, probes, the chosen path.
//! - `path_watch`, `path_keeper`: which way to a peer works, by end-to-end evidence, and whether the peer is there at all; the flip to another.
//! - [`admission`]: which streams a hosting node lets in by which grants, and when they end. Pure, like `paths`, `passes`, `roster`, `path_watch`.
//! - [`stream`], [`splice`]: what programs get, and the fast copy to TCP. [`early`]: its first bytes. [`datagram`]: UDP beside it.
//! - [`node`]: all of it together.

pub mod admission;
pub mod attach;
pub mod attachments;
pub mod cid;
mod congestion;
mod control;
pub mod datagram;
pub mod early;
pub mod frame;
pub mod handshakes;
pub mod header;
pub mod inbound;
pub mod knock;
pub mod memory;
pub mod node;
pub mod passes;
mod path_keeper;
mod path_watch;
pub mod paths;
pub mod peer;
mod roster;
pub mod round_trips;
pub mod socket;
pub mod splice;
pub mod stream;
pub mod transport;
