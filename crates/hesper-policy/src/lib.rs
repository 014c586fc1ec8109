//! Who may dial or bind what, through which router, and why: pure functions of an immutable model.
//!
//! - [`Model`]: every entity at one revision, with look-ups by id and name. A change makes the next model and shares
//!   the tables it did not touch, so a policy change costs the number of policies, whatever the number of identities.
//!   So it does with its indexes, by which a decision costs the policies that name who asks.
//! - [`decide`]: may this identity dial, bind, or use this router? The answer names the [`Rule`] that decided.
//! - [`routers`]: which routers an identity, a service, and each end of a dial may use.
//! - [`sender_terms`]: what a dialer may send to a service that takes OTLP.
//! - [`access`]: which services an identity may use, and which identities a service.
//! - [`Changed`]: what differs between two models, and whom it may concern.
//! - [`mod@advise`]: the policy advisor: what stands between an identity and a service.
//! - [`hints`]: the one line after `create service` that says what is still missing.
//! - [`terminators`]: which of several terminators a dial goes to.
//!
//! A dial needs a Dial policy for the dialer, a Bind policy for the host, and for each of the two a router that an edge-router
//! policy gives to it and a service-edge-router policy to the service; one router for both, or two that are linked, which is no
//! matter of policy. No policy ever forbids: adding one can only allow more.

pub mod access;
pub mod advise;
mod changed;
mod decide;
pub mod hints;
mod index;
mod model;
pub mod routers;
mod rule;
mod senders;
mod table;
pub mod terminators;

pub use access::services_for;
pub use advise::{Advice, advise};
pub use changed::Changed;
pub use decide::{Decision, Request, Verdict, decide};
pub use model::{Change, Entities, Model, Stored};
pub use routers::{common_routers, routers_for};
pub use rule::{PolicyRef, Rule};
pub use senders::sender_terms;
pub use table::Table;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
