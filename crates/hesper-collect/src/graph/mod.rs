//! A configuration at work: components, pipelines, receivers; and how it becomes another one without a break.

mod parts;
pub(crate) mod pipelines;
pub(crate) mod processors;
pub(crate) mod receivers;

pub(crate) use parts::{Maker, Parts};

use hesper_collector_config::Id;
use std::fmt::Display;

/// Why a configuration, or a part of it, does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A component cannot be made.
    #[error("the {class} '{id}' cannot start: {reason}")]
    Component {
        /// `exporter` and the like.
        class: &'static str,
        /// Its id.
        id: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A receiver's listener.
    #[error("the receiver '{0}' cannot start: {1}")]
    Receiver(String, String),
    /// A pipeline's queue.
    #[error("the pipeline '{0}' cannot start: {1}")]
    Pipeline(String, String),
    /// A health check's listener.
    #[error("the extension '{0}' cannot start: {1}")]
    Check(String, String),
}

impl StartError {
    /// Is it a listener that failed? Those are opened last: the rest of the configuration runs then.
    pub fn is_listening(&self) -> bool {
        matches!(self, Self::Receiver(..) | Self::Check(..))
    }

    pub(crate) fn of(class: &'static str, id: &Id, reason: impl Display) -> Self {
        Self::Component { class, id: id.to_string(), reason: reason.to_string() }
    }
}
