//! The router: one UDP port that carries packets between nodes and cannot read them.
//!
//! Nodes hold end-to-end QUIC connections whose connection ids carry tags. Each node attaches to the router over a QUIC
//! connection of its own, proves which tag is its own, and presents the passes that the controller signed for its dials. From
//! then on a packet passes if it comes from an attached node's address, names another attached node's tag, and a pass
//! holds the pair of the two open. Where the other one is attached to another router, the packet takes the link to that router,
//! and no second one. Everything else is dropped and counted, and nobody who is not enrolled gets an answer.
//!
//! A packet's way, from the wire inwards:
//! - `socket`: the UDP port; forwards within quinn's own read, without a task in between. `split` cuts what the kernel merged, `join`
//!   puts together what has one destination, `send` sends it on.
//! - `judge`: forwarded, ours, or dropped (`drops`)? It asks `table` (who is where, which pairs are open), `replay` (is this
//!   knock new?) and `issued` (is this connection id ours?). All of them are pure, as is `quota`: may this session send so much?
//! - `incoming`: who knocks and proves itself is let in, within its `limits`: nodes `attach`, other routers open a `link`.
//!   `admission` checks session tokens and passes, `revoked` knows what was taken back.
//! - `links`: whom links are kept with, and when one is down; `link` is the conversation, and connects.
//! - `control`: the controller's word, kept in `standing` for a start without it; `outage` says what holds meanwhile.
//! - `trace`: a pass that is shown belongs to the trace of its dial.
//! - `sessions`: what these share, which of them have fallen into `silence`, and which are in `doubt` since their identity came
//!   anew; `plane` is the part of it that forwarding reads.
//! - `run` starts and stops it all; `home` is the directory with the router's identity.

mod admission;
mod attach;
mod control;
mod doubt;
mod drops;
mod home;
mod incoming;
mod issued;
mod join;
mod judge;
mod limits;
mod link;
mod links;
mod metrics;
mod outage;
mod plane;
mod quota;
mod rate;
mod replay;
mod revoked;
mod run;
mod send;
mod sessions;
mod silence;
mod socket;
mod split;
mod standing;
mod table;
mod trace;

pub use home::{EnrolledRouter, RouterEnrollError, RouterHome, enroll};
pub use quota::{InvalidRate, SessionRate};
pub use run::{Router, RunOptions, Running, StartError};
