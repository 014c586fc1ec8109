//! Policy as code at the command line: files in, requests out. What they mean is decided in `hesper-manifest`.
//!
//! - [`files`]: which files, and their text.
//! - [`present`]: what the controller has.
//! - [`report`]: faults, tests and plans for people and as JSON.
//! - [`apply`]: one request after the other, and what to say when one fails.

pub(crate) mod apply;
pub(crate) mod files;
pub(crate) mod present;
pub(crate) mod report;
