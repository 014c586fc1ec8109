//! `otlp.v1`: who may send what to a service that takes OTLP.

/// What policy lets one identity send to one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderTerms {
    /// Is it a gateway, whose word about who sent a batch counts?
    pub gateway: bool,
}
