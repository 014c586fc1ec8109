//! What can happen, as a closed table: the name of each event, and the namespace that it belongs to.
//!
//! Namespaces are OpenZiti's where it has one (`authentication`, `circuit`, `entityChange`, `link`, `router`, `session`, `terminator`).

use serde::{Serialize, Serializer};
use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $namespace:literal $name:literal),+ $(,)?) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind),+ }

        impl Kind {
            /// Every one.
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];

            /// Its name, the `event` of a line: `dial`, `router.online`.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),+ }
            }

            /// What it belongs to.
            pub const fn namespace(self) -> &'static str {
                match self { $(Kind::$kind => $namespace),+ }
            }
        }
    };
}

kinds! {
    /// A one-time token was redeemed, or not.
    Enrollment = "enrollment" "enrollment",
    /// An administrator logged in, or not.
    Login = "authentication" "login",
    /// Something was created, changed or deleted through the management API, or not.
    Change = "entityChange" "change",
    /// A grant to dial a service was asked for.
    Dial = "circuit" "dial",
    /// A grant ended before its time.
    GrantRevoked = "circuit" "grant.revoked",
    /// A service was to be bound.
    Bind = "terminator" "bind",
    /// A terminator came to be by a bind.
    TerminatorCreated = "terminator" "terminator.created",
    /// A terminator of a bind is gone.
    TerminatorRemoved = "terminator" "terminator.removed",
    /// A node opened its session or came back to it, or may not.
    Attach = "session" "attach",
    /// A node closed its connection; its session waits for it for a while.
    Detach = "session" "detach",
    /// A session is over for good.
    SessionEnded = "session" "session.ended",
    /// A router connected.
    RouterOnline = "router" "router.online",
    /// A router is gone.
    RouterOffline = "router" "router.offline",
    /// Two routers can reach one another: both say so.
    LinkUp = "link" "link.up",
    /// They cannot any more.
    LinkDown = "link" "link.down",
    /// A certificate was renewed, or not.
    Renew = "certificate" "renew",
    /// The rotation of the CA took a step.
    CaRotation = "certificate" "ca.rotation",
    /// Telemetry was sent to a gateway.
    Send = "telemetry" "send",
    /// A queue has no room any more: senders are told to come again.
    QueueFull = "telemetry" "queue.full",
    /// It has room again.
    QueueRoom = "telemetry" "queue.room",
    /// A configuration was read again and is in force, or is not.
    ConfigApplied = "config" "config.applied",
    /// A follower was too slow, or came too late: so many events are not told to it.
    Missed = "events" "missed",
}

impl Kind {
    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Is it something that an operator may have to look after, even where all went as it should?
    pub(super) const fn is_trouble(self) -> bool {
        matches!(self, Self::RouterOffline | Self::LinkDown | Self::QueueFull | Self::Missed)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Allowed, and done; or it happened, and nobody had to allow it.
    Success,
    /// Refused: by policy, by a wrong password, by a used token.
    Denied,
    /// Allowed, but it failed.
    Failure,
}

impl Outcome {
    /// Every one.
    pub const ALL: &[Outcome] = &[Outcome::Success, Outcome::Denied, Outcome::Failure];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Denied => "denied",
            Outcome::Failure => "failure",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|outcome| outcome.name() == name)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_found_again() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(Kind::of_name(kind.name()), Some(*kind));
            let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphabetic() || c == '.');
            assert!(plain(kind.name()) && plain(kind.namespace()), "{kind}");
        }
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::of_name(outcome.name()), Some(*outcome));
        }
        assert_eq!((Kind::of_name("Dial"), Outcome::of_name("")), (None, None));
    }
}
