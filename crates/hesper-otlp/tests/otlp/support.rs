//! Random requests, from descriptors rather than from the table under test, and what prost makes of them.

use hesper_otlp::Signal;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use std::{collections::BTreeSet, sync::LazyLock};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(opentelemetry_proto::DESCRIPTORS).expect("descriptors"));

/// The descriptor of a signal's request.
pub(crate) fn request(signal: Signal) -> MessageDescriptor {
    let service = POOL.get_service_by_name(signal.grpc_service()).expect("a service");
    service.methods().next().expect("its method").input()
}

/// What prost reads and writes again; `None` for what it refuses.
pub(crate) fn canonical(signal: Signal, bytes: &[u8]) -> Option<Vec<u8>> {
    fn again<M: Message + Default>(bytes: &[u8]) -> Option<Vec<u8>> {
        M::decode(bytes).ok().map(|message| message.encode_to_vec())
    }
    match signal {
        Signal::Traces => again::<ExportTraceServiceRequest>(bytes),
        Signal::Metrics => again::<ExportMetricsServiceRequest>(bytes),
        Signal::Logs => again::<ExportLogsServiceRequest>(bytes),
        Signal::Profiles => again::<ExportProfilesServiceRequest>(bytes),
    }
}

/// How strange a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As a client writes it.
    Plain,
    /// Whatever protobuf allows: unknown fields and groups, padded numbers, values in pieces, lists not packed.
    Odd,
}

/// Any signal with any request.
pub(crate) fn any_request(style: Style) -> impl Strategy<Value = (Signal, Vec<u8>)> {
    let tape = prop::collection::vec(any::<u8>(), 0..900);
    (0..4_usize, tape).prop_map(move |(signal, tape)| {
        let signal = Signal::ALL[signal];
        let mut maker = Maker { tape: &tape, style };
        (signal, maker.message(&request(signal), 0))
    })
}

/// Writes messages as a tape of bytes decides, so that proptest can shrink them.
struct Maker<'a> {
    tape: &'a [u8],
    style: Style,
}

const TEXTS: [&str; 10] = [
    "",
    "a",
    "service.name",
    "hesper.identity.id",
    "hesper.x",
    "hesper.",
    "hesper",
    "Hesper.x",
    "xhesper.x",
    "é\u{1}\"\\/",
];
const DOUBLES: [f64; 8] = [0.0, -0.0, 1.5, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1];
const NUMBERS: [u64; 8] = [0, 1, 2, 3, 127, 128, u64::MAX, i64::MIN as u64];
/// Deepest message of a random request.
const DEPTH: u32 = 14;

impl Maker<'_> {
    /// Zero when the tape is over, so that everything ends.
    fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.tape.split_first() else { return 0 };
        self.tape = rest;
        usize::from(*first) % limit
    }

    fn odd(&mut self, one_in: usize) -> bool {
        self.style == Style::Odd && self.below(one_in) == one_in - 1
    }

    fn message(&mut self, of: &MessageDescriptor, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut once = BTreeSet::new();
        let fields: Vec<FieldDescriptor> = of.fields().collect();
        let messages: Vec<&FieldDescriptor> =
            fields.iter().filter(|field| matches!(field.kind(), Kind::Message(_))).collect();
        for _ in 0..self.below(if depth < 4 { 7 } else { 5 }) {
            if self.odd(12) {
                self.unknown(&mut out, 0);
            }
            // Rather deep than wide.
            let field = match self.below(3) {
                0 => fields[self.below(fields.len())].clone(),
                _ if messages.is_empty() => fields[self.below(fields.len())].clone(),
                _ => messages[self.below(messages.len())].clone(),
            };
            // A key that occurs twice is read as the last by some and refused by us; `spoofing.rs` has it.
            let key = field.name().starts_with("key") && of.name().starts_with("KeyValue");
            let group = field.containing_oneof().map_or(field.number(), |_| 0);
            let alone = self.style == Style::Plain || key;
            if depth < DEPTH && (field.is_list() || once.insert(group) || !alone) {
                self.field(&field, &mut out, depth);
            }
        }
        out
    }

    fn field(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>, depth: u32) {
        let packed = field.is_packed() && !self.odd(3);
        if !packed {
            return self.one(field, out, depth, true);
        }
        let mut values = Vec::new();
        for _ in 0..self.below(4) {
            self.one(field, &mut values, depth, false);
        }
        self.bytes(field.number(), &values, out);
    }

    fn one(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>, depth: u32, key: bool) {
        let number = NUMBERS[self.below(NUMBERS.len())];
        let mut put = |maker: &mut Self, wire: u64, value: &[u8]| {
            if key {
                maker.varint(u64::from(field.number()) << 3 | wire, out);
            }
            out.extend_from_slice(value);
        };
        match field.kind() {
            Kind::Message(of) => {
                let inner = self.message(&of, depth + 1);
                self.bytes(field.number(), &inner, out);
            }
            Kind::String => {
                let text = TEXTS[self.below(TEXTS.len())];
                self.bytes(field.number(), text.as_bytes(), out);
            }
            Kind::Bytes => {
                let len = match field.name() {
                    "trace_id" => 16,
                    "span_id" | "parent_span_id" => 8,
                    _ => self.below(5),
                };
                let id = vec![self.below(256) as u8; len];
                self.bytes(field.number(), &id, out);
            }
            Kind::Double => put(self, 1, &DOUBLES[number as usize % DOUBLES.len()].to_le_bytes()),
            Kind::Fixed64 | Kind::Sfixed64 => put(self, 1, &number.to_le_bytes()),
            Kind::Fixed32 => put(self, 5, &(number as u32).to_le_bytes()),
            Kind::Bool => put(self, 0, &[(number & 1) as u8]),
            Kind::Uint32 => {
                let value = self.number(number & 0xffff_ffff);
                put(self, 0, &value);
            }
            Kind::Int32 | Kind::Enum(_) => {
                let value = self.number(number as i32 as u64);
                put(self, 0, &value);
            }
            Kind::Sint32 => {
                let value = self.number(number & 0xffff_ffff);
                put(self, 0, &value);
            }
            _ => {
                let value = self.number(number);
                put(self, 0, &value);
            }
        }
    }

    fn number(&mut self, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.varint(value, &mut out);
        out
    }

    fn varint(&mut self, value: u64, out: &mut Vec<u8>) {
        prost::encoding::encode_varint(value, out);
        if value < 1 << 20 && self.odd(9) {
            *out.last_mut().expect("a byte") |= 0x80;
            out.push(0x80);
            out.push(0);
        }
    }

    fn bytes(&mut self, number: u32, bytes: &[u8], out: &mut Vec<u8>) {
        self.varint(u64::from(number) << 3 | 2, out);
        self.varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }

    fn unknown(&mut self, out: &mut Vec<u8>, depth: u32) {
        let number = [99_u64, 1000, (1 << 29) - 1][self.below(3)];
        match self.below(5) {
            0 => out.extend([self.number(number << 3), self.number(7)].concat()),
            1 => out.extend([self.number(number << 3 | 1), vec![1; 8]].concat()),
            2 => out.extend([self.number(number << 3 | 5), vec![1; 4]].concat()),
            3 => self.bytes(number as u32, TEXTS[3].as_bytes(), out),
            _ => {
                out.extend(self.number(number << 3 | 3));
                for _ in 0..self.below(3) {
                    if depth < 5 {
                        self.unknown(out, depth + 1);
                    }
                }
                out.extend(self.number(number << 3 | 4));
            }
        }
    }
}

/// A field with a length, as bytes.
pub(crate) fn field(number: u32, parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.concat();
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(number) << 3 | 2, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

/// A field that is a number.
pub(crate) fn number(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(number) << 3, &mut out);
    prost::encoding::encode_varint(value, &mut out);
    out
}
