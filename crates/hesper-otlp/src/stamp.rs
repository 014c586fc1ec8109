//! The stamp: who sent a batch, on every resource of it, and nothing else under the same prefix anywhere.
//!
//! Attributes whose key begins with the reserved prefix are ours alone. [`stamp`] takes every other one out wherever it may hide
//! (any `KeyValue` at any depth; in profiles also keys that are entries of the string table), then adds ours to each resource.
//!
//! It works on the encoded bytes. A key is contiguous there, so a message without the bytes of the prefix holds no such key
//! and is not even looked into: for honest senders only the headers of resources are read. Where resources or lists occur in
//! pieces that protobuf merges, each piece is cleaned, and the last piece of the resource gets the attributes.
//! A field that this version of OTLP does not know is left as it is, unless it contains the prefix: then it goes.

use crate::{
    Signal,
    limits::DEPTH,
    schema::{self, COMMON_KEY_VALUE, MessageType, PROFILES_KEY_VALUE_AND_UNIT, number},
    splice::{Open, Splice},
    validate::string_table,
    wire::{Entry, Fault, Fields, Malformed, Value, inner, put_field as put},
};
use bytes::Bytes;
use memchr::memmem::Finder;

/// What our attributes begin with.
pub const RESERVED_PREFIX: &str = "hesper.";

/// Most bytes that stamps may add to one batch. A stamp has some 200 bytes, a resource may have 2: without a bound a request within
/// its limit would grow to a hundred times that. So there may be some 80 000 resources in a batch.
pub const MAX_GROWTH: usize = 16 * 1024 * 1024;

/// Attributes for the resources of a batch, already encoded: made once per sender, used for each of its batches.
#[derive(Clone, Debug)]
pub struct Stamp {
    prefix: Finder<'static>,
    /// Fields of `Resource`.
    attributes: Vec<u8>,
    /// A field of `Resource…`: a resource with nothing but the attributes.
    resource: Vec<u8>,
}

/// Why a batch cannot be stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// It is no request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It has too many resources.
    #[error(
        "the batch has more than {resources} resources, too many to name its sender on each; send smaller batches"
    )]
    TooManyResources {
        /// How many there may be.
        resources: usize,
    },
}

impl Default for Stamp {
    fn default() -> Self {
        Self::new(RESERVED_PREFIX)
    }
}

impl Stamp {
    /// A stamp that adds nothing yet; it only takes out what begins with the prefix.
    pub fn new(reserved_prefix: &str) -> Self {
        let prefix = Finder::new(reserved_prefix.as_bytes()).into_owned();
        Self { prefix, attributes: Vec::new(), resource: Vec::new() }
    }

    /// Adds an attribute that is a text.
    #[must_use]
    pub fn with(self, key: &str, text: &str) -> Self {
        self.push(key, &text_value(text))
    }

    /// Adds an attribute that is a list of texts.
    #[must_use]
    pub fn with_list<'a>(self, key: &str, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut list = Vec::new();
        texts.into_iter().for_each(|text| put(number::VALUES, &text_value(text), &mut list));
        let mut value = Vec::new();
        put(number::ARRAY_VALUE, &list, &mut value);
        self.push(key, &value)
    }

    fn push(mut self, key: &str, value: &[u8]) -> Self {
        let mut pair = Vec::new();
        put(number::KEY, key.as_bytes(), &mut pair);
        put(number::VALUE, value, &mut pair);
        put(number::ATTRIBUTES, &pair, &mut self.attributes);
        self.resource.clear();
        put(number::RESOURCE, &self.attributes, &mut self.resource);
        self
    }
}

fn text_value(text: &str) -> Vec<u8> {
    let mut value = Vec::new();
    put(number::STRING_VALUE, text.as_bytes(), &mut value);
    value
}

/// Numbers of the texts that a stamp inserts.
const ATTRIBUTES: u8 = 0;
const RESOURCE: u8 = 1;

/// Takes out every attribute under the stamp's prefix and adds the stamp's own to each resource. The payload is one that
/// [`validate`](crate::validate()) accepted; without need for a change it is handed back as it is.
///
/// # Errors
/// When it is no request as far as one can see, and when it would grow by more than [`MAX_GROWTH`].
pub fn stamp(signal: Signal, payload: &Bytes, with: &Stamp) -> Result<Bytes, StampError> {
    let request = schema::request(signal);
    if payload.len() + MAX_GROWTH > Splice::MAX_LEN {
        return Err(Malformed { at: 0, within: request.name, fault: Fault::TooLong }.into());
    }
    let mut walk = Walk {
        payload,
        with,
        hit: Hit { at: 0, searched: None },
        resources: 0,
        names: Vec::new(),
        no_name: None,
        splice: Splice::default(),
    };
    if signal == Signal::Profiles {
        walk.read_names();
    }
    walk.request(request)?;
    if walk.splice.is_empty() {
        return Ok(payload.clone());
    }
    Ok(walk.splice.apply(payload, &[&with.attributes, &with.resource]))
}

/// The next place of the prefix. Asked from the front to the back, all answers together cost one search through the payload.
struct Hit {
    at: usize,
    /// From where `at` is the first.
    searched: Option<usize>,
}

struct Walk<'a> {
    payload: &'a [u8],
    with: &'a Stamp,
    hit: Hit,
    /// Resources that got the attributes.
    resources: usize,
    /// Entries of the string table that begin with the prefix, in order.
    names: Vec<u32>,
    /// Where the first entry of that table begins, if it does too. It must be empty, for that is how "none" is said.
    no_name: Option<usize>,
    splice: Splice,
}

impl Walk<'_> {
    /// Looks which entries of the string table begin with the prefix.
    fn read_names(&mut self) {
        for (index, name) in string_table(self.payload).enumerate() {
            match self.begins_with_prefix(&name) {
                true if index == 0 => self.no_name = Some(name.start),
                true => self.names.push(index as u32),
                false => {}
            }
        }
    }

    fn begins_with_prefix(&self, text: &Entry) -> bool {
        self.payload[text.range()].starts_with(self.with.prefix.needle())
    }

    fn request(&mut self, of: &'static MessageType) -> Result<(), StampError> {
        for entry in Fields::new(self.payload, 0..self.payload.len(), 0, of.name) {
            let entry = entry?;
            match inner(of, &entry)? {
                Some(holder) if entry.number == number::RESOURCES => self.holder(holder, &entry)?,
                _ => self.field(of, &entry, 0)?,
            }
        }
        Ok(())
    }

    /// `ResourceSpans` and their like.
    fn holder(&mut self, of: &'static MessageType, holder: &Entry) -> Result<(), StampError> {
        if self.with.attributes.is_empty() {
            return Ok(self.descend(of, holder, 0)?);
        }
        self.resources += 1;
        if self.resources.saturating_mul(self.with.resource.len()) > MAX_GROWTH {
            return Err(StampError::TooManyResources { resources: MAX_GROWTH / self.with.resource.len() });
        }
        let payload = self.payload;
        let fields = || Fields::new(payload, holder.range(), 1, of.name);
        let mut last = None;
        for entry in fields() {
            let entry = entry?;
            last = if entry.number == number::RESOURCE { Some(entry.start) } else { last };
        }
        let open = self.open(holder);
        if last.is_none() {
            self.splice.insert(holder.body, RESOURCE, self.with.resource.len());
        }
        for entry in fields() {
            let entry = entry?;
            match inner(of, &entry)? {
                Some(resource) if last == Some(entry.start) => {
                    let open = self.open(&entry);
                    self.message(resource, &entry, 2)?;
                    self.splice.insert(entry.end, ATTRIBUTES, self.with.attributes.len());
                    self.splice.close(&open);
                }
                _ => self.field(of, &entry, 1)?,
            }
        }
        self.splice.close(&open);
        Ok(())
    }

    /// Cleans a message, `level` messages inside the request.
    fn message(&mut self, of: &'static MessageType, at: &Entry, level: u32) -> Result<(), Malformed> {
        for entry in Fields::new(self.payload, at.range(), level, of.name) {
            self.field(of, &entry?, level)?;
        }
        Ok(())
    }

    /// Cleans a field of a message that is `level` messages inside the request.
    fn field(&mut self, of: &'static MessageType, entry: &Entry, level: u32) -> Result<(), Malformed> {
        if of.field(entry.number).is_none() {
            if self.hit(entry) {
                self.splice.remove(entry.start, entry.end - entry.start);
            }
            return Ok(());
        }
        let Some(inner) = inner(of, entry)? else {
            if self.no_name == Some(entry.start) {
                self.empty(entry);
            }
            return Ok(());
        };
        if inner.is(&COMMON_KEY_VALUE) && self.is_reserved(entry, level, number::KEY_STRINDEX)? {
            self.splice.remove(entry.start, entry.end - entry.start);
            return Ok(());
        }
        if inner.is(&PROFILES_KEY_VALUE_AND_UNIT)
            && self.is_reserved(entry, level, number::UNIT_KEY_STRINDEX)?
        {
            // Others name the entries by their place, so it stays, empty.
            self.empty(entry);
            return Ok(());
        }
        self.descend(inner, entry, level)
    }

    /// Cleans the message in a field of a message that is `level` messages inside the request, if there may be something in it.
    fn descend(&mut self, inner: &'static MessageType, entry: &Entry, level: u32) -> Result<(), Malformed> {
        if self.names.is_empty() && !self.hit(entry) {
            return Ok(());
        }
        if level >= DEPTH {
            return Err(Malformed { at: entry.start, within: inner.name, fault: Fault::TooDeep });
        }
        let open = self.open(entry);
        self.message(inner, entry, level + 1)?;
        self.splice.close(&open);
        Ok(())
    }

    fn empty(&mut self, entry: &Entry) {
        let open = self.open(entry);
        self.splice.remove(entry.body, entry.end - entry.body);
        self.splice.close(&open);
    }

    fn open(&mut self, entry: &Entry) -> Open {
        self.splice.open_field(self.payload, entry)
    }

    /// Has a pair a key of ours, as text or as a place in the string table? Of several keys, any.
    fn is_reserved(&mut self, pair: &Entry, level: u32, strindex: u32) -> Result<bool, Malformed> {
        if self.names.is_empty() && !self.hit(pair) {
            return Ok(false);
        }
        for entry in Fields::new(self.payload, pair.range(), level + 1, "KeyValue") {
            let entry = entry?;
            let reserved = match entry.value {
                Value::Len if entry.number == number::KEY => self.begins_with_prefix(&entry),
                // Numbers of 32 bits are cut off to them.
                Value::Varint(index) if entry.number == strindex => {
                    self.names.binary_search(&(index as u32)).is_ok()
                }
                _ => false,
            };
            if reserved {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Do the bytes of the prefix occur in a field?
    fn hit(&mut self, entry: &Entry) -> bool {
        let from = entry.body;
        if self.hit.searched.is_none_or(|searched| from < searched) || self.hit.at < from {
            let found = self.with.prefix.find(&self.payload[from..]);
            self.hit = Hit { at: found.map_or(usize::MAX, |at| from + at), searched: Some(from) };
        }
        self.hit.at.saturating_add(self.with.prefix.needle().len()) <= entry.end
    }
}
