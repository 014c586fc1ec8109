//! YAML for files that people write: a tree in which every value knows its line and column, and the words for a mistake.
//!
//! - [`parse`]: a text → its documents and every [`Flaw`]. Anchors and aliases work; depth and size are bounded, so that no
//!   file can exhaust memory by naming itself.
//! - [`Node`]: text, list or mapping, with its place. A scalar keeps the text that was written; [`Node::json`] reads it by
//!   YAML's core schema, and whoever wants a password takes [`Node::text`]: `0123` stays `0123`.
//! - [`Fault`]: what is wrong with a file, for people: file, line, column, the reason, what to do.
//! - [`nearest`], [`advice`]: "did you mean".
//!
//! No I/O, and nothing about what a file is for.

mod fault;
mod nearest;
mod parse;
mod scalar;
mod tree;

pub use fault::{Fault, Place};
pub use nearest::{advice, nearest};
pub use parse::{Flaw, MAX_DEPTH, MAX_NODES, parse};
pub use scalar::core_schema;
pub use tree::{At, Data, Node, Style};
