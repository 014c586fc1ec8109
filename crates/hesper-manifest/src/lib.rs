//! Policy as code: what an administrator wants, in YAML files, with tests that must pass before any of it is applied.
//!
//! ```yaml
//! set: prometheus              # who owns what these files make: `--prune` deletes only that
//! identities:
//!   - {name: prometheus, roleAttributes: [scrapers]}
//! services:
//!   - {name: metrics}
//! service-policies:
//!   - {name: metrics.dial, type: Dial, identityRoles: ["#scrapers"], serviceRoles: ["@metrics"]}
//! tests:
//!   - {identity: prometheus, can-dial: metrics, cannot-bind: "#all"}
//! ```
//!
//! - [`Manifest::read`]: texts → what they declare; every [`Fault`] has file, line, column, the reason and what to do.
//! - [`Snapshot`]: what a controller has now, from the answers of its management API.
//! - [`Plan`]: declared − present = what to create, change, delete, in an order in which every reference exists.
//! - [`World`]: what there would be afterwards; [`run`] puts the tests to it, and `hesper_policy::decide` answers.
//! - [`render`]: a snapshot as such files, which read back to a plan with nothing in it.
//!
//! Everything is compared in *named form*: the management API's JSON with names in the place of ids, lists sorted, defaults
//! filled in. One table ([`fields`]) says for each kind what may be written, what it means when it is left out, and how the
//! API calls it. No I/O, no clock.

mod expect;
pub mod fields;
mod manifest;
mod plan;
mod refer;
mod render;
mod snapshot;
mod value;
mod verdict;
mod world;

pub use expect::{Test, Verb};
pub use fields::{KINDS, Key};
pub use hesper_yaml::{Fault, Place};
pub use manifest::{Declared, Manifest, Source};
pub use plan::{Change, FieldChange, Plan};
pub use render::render;
pub use snapshot::{Present, Snapshot, Unreadable};
pub use verdict::{Assertion, Failure, Report, run};
pub use world::{Unresolved, World};

/// The tag that holds the name of the set that made an entity.
pub const SET_TAG: &str = "policySet";
