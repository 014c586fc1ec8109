//! Attributes set and taken away in the encoded bytes, for processors that give every resource, span, data point or log record the
//! same few attributes: no message is decoded.
//!
//! What comes out is what decoding, editing and encoding would give (`tests/otlp/editing.rs`). As in a decoder, a resource in pieces is one, and
//! of several keys in one pair the last counts. A key that several pairs of a list have is edited in all of them.

use crate::{
    Signal,
    schema::{self, Kind, MessageType, Shape, number},
    splice::Splice,
    validate::string_table,
    wire::{Entry, Fault, Fields, Malformed, Value, inner, put_field},
};
use bytes::Bytes;
use std::ops::Range;

/// Most bytes that edits may add to one batch. A span of two bytes may get hundreds: without a bound a request within its limit would
/// grow without one. Batches of honest senders are far from it.
pub const MAX_GROWTH: usize = 64 * 1024 * 1024;

/// Most edits that are made at once.
pub const MAX_EDITS: usize = 60;

/// What is done with an attribute. Values are encoded `AnyValue`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set it when it is not there.
    Insert(Vec<u8>),
    /// Set it when it is there.
    Update(Vec<u8>),
    /// Set it.
    Upsert(Vec<u8>),
    /// Take it away.
    Delete,
}

/// Whose attributes are edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Those of every resource.
    Resources,
    /// Those of every span, data point and log record. Profiles stay as they are.
    Items,
}

/// Why a batch cannot be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It would grow too much.
    #[error("with the attributes that are to be added, the batch would grow by more than {MAX_GROWTH} bytes")]
    TooMuch,
}

/// The field numbers of attributes that there are, one bit each in the list of texts.
const NUMBERS: [u32; 4] = [1, 6, 7, 9];

/// Changes of attributes, made ready once and used for every batch. Each key has one change, so that their order does not matter.
#[derive(Clone, Debug)]
pub struct Edits {
    keys: Vec<String>,
    /// Changes, one bit each: what they do where the key is not there, and where it is.
    appends: u64,
    replaces: u64,
    removes: u64,
    /// For each number of [`NUMBERS`] all appended pairs in one, then the pair of each key. At last a resource with all.
    texts: Vec<Vec<u8>>,
}

impl Edits {
    /// Makes changes ready. `None` when there are two for one key, or more than [`MAX_EDITS`]: then messages must be decoded.
    pub fn new(changes: &[(String, Change)]) -> Option<Self> {
        let twice = |i: usize| changes[..i].iter().any(|(key, _)| *key == changes[i].0);
        if changes.len() > MAX_EDITS || (0..changes.len()).any(twice) {
            return None;
        }
        let mut edits = Self { keys: Vec::new(), appends: 0, replaces: 0, removes: 0, texts: Vec::new() };
        let mut pairs = Vec::new();
        for (index, (key, change)) in changes.iter().enumerate() {
            let bit = 1 << index;
            let (value, appends, replaces) = match change {
                Change::Insert(value) => (Some(value), bit, 0),
                Change::Update(value) => (Some(value), 0, bit),
                Change::Upsert(value) => (Some(value), bit, bit),
                Change::Delete => (None, 0, 0),
            };
            let mut pair = Vec::new();
            if let Some(value) = value {
                put_field(number::KEY, key.as_bytes(), &mut pair);
                put_field(number::VALUE, value, &mut pair);
            } else {
                edits.removes |= bit;
            }
            edits.appends |= appends;
            edits.replaces |= replaces;
            edits.keys.push(key.clone());
            pairs.push(pair);
        }
        edits.write_texts(&pairs);
        Some(edits)
    }

    fn write_texts(&mut self, pairs: &[Vec<u8>]) {
        let mut resource = Vec::new();
        for number in NUMBERS {
            let (mut all, mut each) = (Vec::new(), Vec::new());
            for (index, pair) in pairs.iter().enumerate() {
                let mut text = Vec::new();
                put_field(number, pair, &mut text);
                if self.appends & 1 << index != 0 {
                    all.extend_from_slice(&text);
                }
                each.push(text);
            }
            if number == number::ATTRIBUTES {
                put_field(number::RESOURCE, &all, &mut resource);
            }
            self.texts.push(all);
            self.texts.append(&mut each);
        }
        self.texts.push(resource);
    }

    /// The text of all appended pairs; that of the pair of one key comes as many places behind it.
    fn all(&self, number: u32) -> Option<usize> {
        NUMBERS.iter().position(|known| *known == number).map(|place| place * (self.keys.len() + 1))
    }
}

/// Makes the changes. The payload is one that [`validate`](crate::validate()) accepted; without need for a change it is handed back as it is.
///
/// # Errors
/// When it is no request as far as one can see, and when it would grow by more than [`MAX_GROWTH`].
pub fn edit(signal: Signal, payload: &Bytes, target: Target, edits: &Edits) -> Result<Bytes, EditError> {
    let request = schema::request(signal);
    if payload.len() + 2 * MAX_GROWTH > Splice::MAX_LEN {
        return Err(Malformed { at: 0, within: request.name, fault: Fault::TooLong }.into());
    }
    if target == Target::Items && signal == Signal::Profiles {
        return Ok(payload.clone());
    }
    let mut walk = Walk { payload, edits, names: Vec::new(), splice: Splice::default() };
    if signal == Signal::Profiles {
        let table = string_table(payload).enumerate();
        let known = |(index, name): (usize, Entry)| Some((index as u32, walk.key(&payload[name.range()])?));
        walk.names = table.filter_map(known).collect();
    }
    for entry in walk.fields(request, 0..payload.len(), 0) {
        let entry = entry?;
        if let (number::RESOURCES, Some(holder)) = (entry.number, inner(request, &entry)?) {
            match target {
                Target::Resources => walk.resource(holder, &entry)?,
                Target::Items => walk.scopes(holder, &entry)?,
            }
        }
    }
    if walk.splice.is_empty() {
        return Ok(payload.clone());
    }
    let texts: Vec<&[u8]> = edits.texts.iter().map(Vec::as_slice).collect();
    Ok(walk.splice.apply(payload, &texts))
}

struct Walk<'a> {
    payload: &'a [u8],
    edits: &'a Edits,
    /// Entries of the string table that are keys, in order, and which.
    names: Vec<(u32, usize)>,
    splice: Splice,
}

impl<'a> Walk<'a> {
    fn fields(&self, of: &'static MessageType, range: Range<usize>, level: u32) -> Fields<'a> {
        Fields::new(self.payload, range, level, of.name)
    }

    /// The resource of a `Resource…`, all pieces of it.
    fn resource(&mut self, of: &'static MessageType, holder: &Entry) -> Result<(), EditError> {
        let (mut last, mut present) = (None, 0);
        for entry in self.fields(of, holder.range(), 1) {
            let entry = entry?;
            if let (number::RESOURCE, Some(resource)) = (entry.number, inner(of, &entry)?) {
                last = Some(entry.start);
                present |= self.present(resource, &entry, number::ATTRIBUTES, 2)?;
            }
        }
        if !self.changes(present) {
            return Ok(());
        }
        let open = self.splice.open_field(self.payload, holder);
        if last.is_none() {
            self.insert(holder.body, self.edits.texts.len() - 1);
        }
        for entry in self.fields(of, holder.range(), 1) {
            let entry = entry?;
            if let (number::RESOURCE, Some(resource)) = (entry.number, inner(of, &entry)?) {
                let open = self.splice.open_field(self.payload, &entry);
                self.replace(resource, &entry, number::ATTRIBUTES, present)?;
                if last == Some(entry.start) {
                    self.append(entry.end, number::ATTRIBUTES, present);
                }
                self.splice.close(&open);
            }
        }
        self.splice.close(&open);
        self.check_growth()
    }

    /// The spans, metrics or log records of a `Resource…`.
    fn scopes(&mut self, of: &'static MessageType, holder: &Entry) -> Result<(), EditError> {
        let open = self.splice.open_field(self.payload, holder);
        for scope in self.fields(of, holder.range(), 1) {
            let scope = scope?;
            let (number::SCOPES, Some(of)) = (scope.number, inner(of, &scope)?) else { continue };
            let open = self.splice.open_field(self.payload, &scope);
            for item in self.fields(of, scope.range(), 2) {
                let item = item?;
                let (number::ITEMS, Some(of)) = (item.number, inner(of, &item)?) else { continue };
                match of.is(&schema::METRICS_METRIC) {
                    true => self.metric(of, &item)?,
                    false => self.item(of, &item, 3)?,
                }
            }
            self.splice.close(&open);
        }
        self.splice.close(&open);
        Ok(())
    }

    fn metric(&mut self, of: &'static MessageType, metric: &Entry) -> Result<(), EditError> {
        let open = self.splice.open_field(self.payload, metric);
        for data in self.fields(of, metric.range(), 3) {
            let data = data?;
            let points = of.field(data.number).is_some_and(|field| field.shape == Shape::Oneof);
            let Some(of) = inner(of, &data)?.filter(|_| points) else { continue };
            let open = self.splice.open_field(self.payload, &data);
            for point in self.fields(of, data.range(), 4) {
                let point = point?;
                if let (number::DATA_POINTS, Some(of)) = (point.number, inner(of, &point)?) {
                    self.item(of, &point, 5)?;
                }
            }
            self.splice.close(&open);
        }
        self.splice.close(&open);
        Ok(())
    }

    /// A span, data point or log record, `level` messages inside the request.
    fn item(&mut self, of: &'static MessageType, item: &Entry, level: u32) -> Result<(), EditError> {
        let Some(number) = attributes_of(of) else { return Ok(()) };
        let present = self.present(of, item, number, level)?;
        if !self.changes(present) {
            return Ok(());
        }
        let open = self.splice.open_field(self.payload, item);
        self.replace(of, item, number, present)?;
        self.append(item.end, number, present);
        self.splice.close(&open);
        self.check_growth()
    }

    /// Which of the keys a list of attributes has.
    fn present(
        &self,
        of: &'static MessageType,
        at: &Entry,
        number: u32,
        level: u32,
    ) -> Result<u64, Malformed> {
        let mut present = 0;
        for pair in self.fields(of, at.range(), level) {
            let pair = pair?;
            if pair.number == number
                && pair.value == Value::Len
                && let Some(index) = self.named(&pair, level)?
            {
                present |= 1 << index;
            }
        }
        Ok(present)
    }

    fn changes(&self, present: u64) -> bool {
        self.edits.appends & !present != 0 || (self.edits.replaces | self.edits.removes) & present != 0
    }

    /// Replaces and takes out the pairs in a message.
    fn replace(
        &mut self,
        of: &'static MessageType,
        at: &Entry,
        number: u32,
        present: u64,
    ) -> Result<(), Malformed> {
        let (edits, all) = (self.edits, self.edits.all(number));
        let (Some(all), true) = (all, (edits.replaces | edits.removes) & present != 0) else { return Ok(()) };
        for pair in self.fields(of, at.range(), 0) {
            let pair = pair?;
            if pair.number != number || pair.value != Value::Len {
                continue;
            }
            let Some(index) = self.named(&pair, 0)? else { continue };
            if (edits.replaces | edits.removes) & 1 << index == 0 {
                continue;
            }
            self.splice.remove(pair.start, pair.end - pair.start);
            if edits.replaces & 1 << index != 0 {
                self.insert(pair.end, all + 1 + index);
            }
        }
        Ok(())
    }

    /// Adds the pairs that are not there.
    fn append(&mut self, at: usize, number: u32, present: u64) {
        let missing = self.edits.appends & !present;
        let Some(all) = self.edits.all(number).filter(|_| missing != 0) else { return };
        if missing == self.edits.appends {
            return self.insert(at, all);
        }
        for index in (0..self.edits.keys.len()).filter(|index| missing & 1 << index != 0) {
            self.insert(at, all + 1 + index);
        }
    }

    fn insert(&mut self, at: usize, text: usize) {
        let len = self.edits.texts[text].len();
        // At most 4 * 61 + 1 texts.
        self.splice.insert(at, text as u8, len);
    }

    fn check_growth(&self) -> Result<(), EditError> {
        if self.splice.added() > MAX_GROWTH { Err(EditError::TooMuch) } else { Ok(()) }
    }

    /// Which of the keys a pair has: as text, else as a place in the string table.
    fn named(&self, pair: &Entry, level: u32) -> Result<Option<usize>, Malformed> {
        let (mut key, mut place) = (&[][..], 0);
        for field in Fields::new(self.payload, pair.range(), level + 1, "KeyValue") {
            let field = field?;
            match field.value {
                Value::Len if field.number == number::KEY => key = &self.payload[field.range()],
                // Numbers of 32 bits are cut off to them.
                Value::Varint(index) if field.number == number::KEY_STRINDEX => place = index as u32,
                _ => {}
            }
        }
        if key.is_empty() {
            let found = self.names.binary_search_by_key(&place, |(index, _)| *index);
            return Ok(found.ok().map(|at| self.names[at].1));
        }
        Ok(self.key(key))
    }

    fn key(&self, key: &[u8]) -> Option<usize> {
        self.edits.keys.iter().position(|known| known.as_bytes() == key)
    }
}

/// The field of a message that has its attributes.
fn attributes_of(of: &'static MessageType) -> Option<u32> {
    let is = |field: &&schema::Field| field.name == "attributes" && matches!(field.kind, Kind::Message(_));
    of.fields.iter().find(is).map(|field| field.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(signal: Signal) -> Vec<&'static MessageType> {
        let of = |of: &'static MessageType, number| match of.field(number).map(|field| field.kind) {
            Some(Kind::Message(inner)) => inner,
            other => panic!("{} {number}: {other:?}", of.name),
        };
        let item = of(of(of(schema::request(signal), number::RESOURCES), number::SCOPES), number::ITEMS);
        if signal != Signal::Metrics {
            return vec![item];
        }
        let data = item.fields.iter().filter(|field| field.shape == Shape::Oneof);
        data.map(|field| of(of(item, field.number), number::DATA_POINTS)).collect()
    }

    #[test]
    fn every_item_has_attributes_of_a_known_number() {
        for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
            for item in items(signal) {
                let number = attributes_of(item).expect(item.name);
                assert!(NUMBERS.contains(&number), "{} {number}", item.name);
            }
        }
        assert_eq!(items(Signal::Metrics).len(), 5);
        assert!(NUMBERS.contains(&number::ATTRIBUTES));
    }

    #[test]
    fn texts_have_numbers_of_one_byte() {
        let changes: Vec<_> = (0..MAX_EDITS).map(|i| (i.to_string(), Change::Delete)).collect();
        let edits = Edits::new(&changes).expect("edits");
        assert!(edits.texts.len() <= 256);
        let more = [&changes[..], &[("x".into(), Change::Delete)]].concat();
        assert!(Edits::new(&more).is_none(), "too many");
        assert!(Edits::new(&[changes[0].clone(), changes[0].clone()]).is_none(), "twice");
    }
}
