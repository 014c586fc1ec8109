//! Who sent a batch: kept beside its payload from the receiver to the last gateway.

use bytes::Bytes;
use hesper_otlp::Signal;
use hesper_proto::telemetry as proto;
use hesper_trace::TraceContext;
use prost::Message;
use std::{collections::BTreeMap, net::IpAddr};

/// An identity of the mesh, as a certificate proved it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Where a batch came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The identity that sent it over the mesh; none when it came from the network under the mesh.
    pub sender: Option<Sender>,
    /// Names of the gateways that it passed, the first one first.
    pub forwarded_for: Vec<String>,
    /// What the authenticator found, such as `username`; processors know it as `auth.username`.
    pub auth: BTreeMap<String, String>,
    /// Headers that were kept (`include_metadata`), names in lower case.
    pub metadata: Vec<(String, Bytes)>,
    /// The sender's address, where it has one.
    pub peer: Option<IpAddr>,
    /// When the first gateway received it, ms since 1970.
    pub received_ms: u64,
    /// The spans of the requests that brought it here, where they are recorded. Not told to other gateways: the request that goes there
    /// is in the trace itself.
    pub traces: Vec<TraceContext>,
}

/// The name of a batch: the same when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The queue that numbers it: random.
    pub queue: [u8; 16],
    /// Its number there.
    pub number: u64,
}

/// What a record of the queue has before its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Who sent it.
    pub origin: Origin,
    /// Of which signal the payload is.
    pub signal: Signal,
    /// How many spans, data points, log records or profiles it has.
    pub items: u64,
    /// How the gateway before called it, if one did.
    pub batch: Option<BatchId>,
}

/// What one gateway tells the next about a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Who sent it to the first gateway.
    pub origin: Origin,
    /// How the gateway that sends it calls it.
    pub batch: BatchId,
}

/// The header that carries an encoded [`Forwarded`], in base64 as gRPC has it for names in `-bin`; over HTTP too.
pub const FORWARDED_HEADER: &str = "hesper-forwarded-bin";

/// Bytes that are none of ours.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// No protobuf.
    #[error("cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field without sense.
    #[error("cannot be read: its {0} makes no sense")]
    Field(&'static str),
}

impl RecordHeader {
    /// As bytes (`proto/hesper/telemetry/v1/origin.proto`).
    pub fn encode(&self) -> Bytes {
        proto::RecordHeader {
            origin: Some(self.origin.to_proto()),
            signal: number_of(self.signal),
            items: self.items,
            batch: self.batch.map(BatchId::to_proto),
        }
        .encode_to_vec()
        .into()
    }

    /// The reverse.
    ///
    /// # Errors
    /// The bytes are no header.
    pub fn decode(bytes: &[u8]) -> Result<Self, OriginError> {
        let header = proto::RecordHeader::decode(bytes)?;
        let signal = Signal::ALL.into_iter().find(|signal| number_of(*signal) == header.signal);
        Ok(Self {
            origin: Origin::from_proto(header.origin.unwrap_or_default())?,
            signal: signal.ok_or(OriginError::Field("signal"))?,
            items: header.items,
            batch: header.batch.map(BatchId::from_proto).transpose()?,
        })
    }
}

impl Forwarded {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (origin, batch) = (Some(self.origin.to_proto()), Some(self.batch.to_proto()));
        proto::Forwarded { origin, batch }.encode_to_vec()
    }

    /// The reverse.
    ///
    /// # Errors
    /// The bytes are no such thing.
    pub fn decode(bytes: &[u8]) -> Result<Self, OriginError> {
        let forwarded = proto::Forwarded::decode(bytes)?;
        Ok(Self {
            origin: Origin::from_proto(forwarded.origin.ok_or(OriginError::Field("origin"))?)?,
            batch: BatchId::from_proto(forwarded.batch.ok_or(OriginError::Field("batch"))?)?,
        })
    }
}

impl BatchId {
    fn to_proto(self) -> proto::BatchId {
        proto::BatchId { queue: self.queue.to_vec(), number: self.number }
    }

    fn from_proto(id: proto::BatchId) -> Result<Self, OriginError> {
        let queue = id.queue.try_into().map_err(|_| OriginError::Field("batch"))?;
        Ok(Self { queue, number: id.number })
    }
}

impl Origin {
    fn to_proto(&self) -> proto::Origin {
        let sender = self.sender.clone().unwrap_or(Sender { id: String::new(), name: String::new() });
        let header =
            |(name, value): &(String, Bytes)| proto::Header { name: name.clone(), value: value.to_vec() };
        proto::Origin {
            identity_id: sender.id,
            identity_name: sender.name,
            forwarded_for: self.forwarded_for.clone(),
            auth: self.auth.clone().into_iter().collect(),
            metadata: self.metadata.iter().map(header).collect(),
            peer_ip: match self.peer {
                Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
                Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
                None => Vec::new(),
            },
            received_ms: self.received_ms,
            traceparents: self.traces.iter().map(TraceContext::traceparent).collect(),
        }
    }

    fn from_proto(origin: proto::Origin) -> Result<Self, OriginError> {
        let sender = Sender { id: origin.identity_id, name: origin.identity_name };
        Ok(Self {
            sender: Some(sender).filter(|sender| !sender.id.is_empty()),
            forwarded_for: origin.forwarded_for,
            auth: origin.auth.into_iter().collect(),
            metadata: origin.metadata.into_iter().map(|h| (h.name, h.value.into())).collect(),
            peer: peer(&origin.peer_ip)?,
            received_ms: origin.received_ms,
            traces: origin.traceparents.iter().filter_map(|text| TraceContext::parse(text, "")).collect(),
        })
    }
}

fn peer(bytes: &[u8]) -> Result<Option<IpAddr>, OriginError> {
    match bytes.len() {
        0 => Ok(None),
        4 => <[u8; 4]>::try_from(bytes).map(|octets| Some(octets.into())),
        _ => <[u8; 16]>::try_from(bytes).map(|octets| Some(octets.into())),
    }
    .map_err(|_| OriginError::Field("address"))
}

fn number_of(signal: Signal) -> u32 {
    match signal {
        Signal::Traces => 1,
        Signal::Metrics => 2,
        Signal::Logs => 3,
        Signal::Profiles => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(peer: Option<&str>) -> Origin {
        Origin {
            sender: Some(Sender { id: "i1".into(), name: "shop".into() }),
            forwarded_for: vec!["edge-1".into(), "edge-2".into()],
            auth: [("username".to_owned(), "user-1".to_owned())].into(),
            metadata: vec![("x-tenant".into(), "a".into()), ("x-tenant".into(), "b".into())],
            peer: peer.map(|ip| ip.parse().expect("an address")),
            received_ms: 7,
            traces: Vec::new(),
        }
    }

    #[test]
    fn headers_and_forwarded_are_what_they_were() {
        let batch = BatchId { queue: [7; 16], number: u64::MAX };
        for origin in [origin(None), origin(Some("10.1.2.3")), origin(Some("fd00::1")), Origin::default()] {
            for signal in Signal::ALL {
                let header = RecordHeader { origin: origin.clone(), signal, items: 3, batch: Some(batch) };
                assert_eq!(RecordHeader::decode(&header.encode()).expect("a header"), header);
            }
            let forwarded = Forwarded { origin, batch };
            assert_eq!(Forwarded::decode(&forwarded.encode()).expect("forwarded"), forwarded);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(RecordHeader::decode(b"\xff").is_err());
        assert!(RecordHeader::decode(b"").is_err(), "no signal");
        assert!(Forwarded::decode(b"").is_err(), "no batch");
        let mut odd = proto::Forwarded {
            origin: Some(proto::Origin { peer_ip: vec![1, 2, 3], ..Default::default() }),
            batch: Some(proto::BatchId { queue: vec![0; 16], number: 1 }),
        };
        assert!(Forwarded::decode(&odd.encode_to_vec()).is_err(), "an address of three bytes");
        odd.origin = Some(proto::Origin::default());
        assert!(Forwarded::decode(&odd.encode_to_vec()).is_ok());
        odd.batch = Some(proto::BatchId { queue: vec![0; 15], number: 1 });
        assert!(Forwarded::decode(&odd.encode_to_vec()).is_err(), "a queue of 15 bytes");
    }
}
