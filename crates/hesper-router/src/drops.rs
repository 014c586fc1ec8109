//! Why a packet was not forwarded: every reason is counted under its name.

/// Reason for dropping a packet; [`DropReason::name`] is the label value of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(crate) enum DropReason {
    /// Not a QUIC packet of ours: cut short, another version, other connection-id lengths.
    Malformed,
    /// The source address belongs to no attached session.
    UnknownSource,
    /// The destination tag is neither attached nor part of an open pair.
    UnknownTag,
    /// Both are attached, but no pass opens this pair.
    PairClosed,
    /// The pair is open and its other side is not attached here now.
    DestinationNotAttached,
    /// From another router, and no pass opens this session to that link.
    LinkPairClosed,
    /// The sending session is over its rate.
    RateLimited,
    /// A knock with a wrong MAC or time.
    KnockInvalid,
    /// A good knock that another address used before.
    KnockReplayed,
    /// More knocks than a node needs.
    KnockTooMany,
    /// To the router's tag, but not a connection id that this router issued.
    ForeignConnectionId,
    /// The socket's send buffer is full.
    SocketFull,
    /// Longer than the next link's MTU.
    TooBig,
    /// The kernel refused it for another reason.
    SendFailed,
    /// The router has not yet heard from its controller who it is.
    NotReady,
}

impl DropReason {
    /// All of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; 15] = [
        Self::Malformed,
        Self::UnknownSource,
        Self::UnknownTag,
        Self::PairClosed,
        Self::DestinationNotAttached,
        Self::LinkPairClosed,
        Self::RateLimited,
        Self::KnockInvalid,
        Self::KnockReplayed,
        Self::KnockTooMany,
        Self::ForeignConnectionId,
        Self::SocketFull,
        Self::TooBig,
        Self::SendFailed,
        Self::NotReady,
    ];

    /// The reason as a metric label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownSource => "unknown_source",
            Self::UnknownTag => "unknown_tag",
            Self::PairClosed => "pair_closed",
            Self::DestinationNotAttached => "destination_not_attached",
            Self::LinkPairClosed => "link_pair_closed",
            Self::RateLimited => "rate_limited",
            Self::KnockInvalid => "knock_invalid",
            Self::KnockReplayed => "knock_replayed",
            Self::KnockTooMany => "knock_too_many",
            Self::ForeignConnectionId => "foreign_connection_id",
            Self::SocketFull => "socket_full",
            Self::TooBig => "too_big",
            Self::SendFailed => "send_failed",
            Self::NotReady => "not_ready",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_its_own_name() {
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
        }
        let names: std::collections::HashSet<_> = DropReason::ALL.map(DropReason::name).into();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
