//! What a node tells those who count: each dial and each of its steps, and each stream that a program of ours takes.

use crate::DialErrorKind;
use std::{fmt::Debug, time::Duration};

/// Hears of dials and accepts. It is called on the hot path: it should add to counters and nothing else.
pub trait Observer: Debug + Send + Sync {
    /// A dial has ended, every retry included.
    fn dialed(&self, failed: Option<DialErrorKind>, took: Duration);

    /// One step of a dial has ended.
    fn step(&self, step: DialStep, is_ok: bool, took: Duration);

    /// A dial of somebody else was accepted, or could not be, so long after the program had got it.
    fn accepted(&self, is_ok: bool, took: Duration);
}

/// The steps of a dial, in this order. Those that are not needed are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialStep {
    /// The grant: a cached one, or the controller's answer.
    Grant,
    /// Its pass, presented to a router.
    Pass,
    /// The connection to the hosting node, end to end.
    Connect,
    /// The stream, until the hosting program has taken it.
    Accept,
}

impl DialStep {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Grant, Self::Pass, Self::Connect, Self::Accept];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Pass => "pass",
            Self::Connect => "connect",
            Self::Accept => "accept",
        }
    }
}
