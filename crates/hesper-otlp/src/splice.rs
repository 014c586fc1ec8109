//! Edits of encoded messages: what goes out and what comes in at which places, done in one copy.
//!
//! An edit inside a message changes the length before it, and that of every message around it. So the list is written from the
//! front, with a place kept for each length ([`Splice::open`]) that is filled when the message is done ([`Splice::close`]).
//! Edits are small, because a hostile request may need one for every few bytes.

use crate::{
    room::Room,
    wire::{Entry, put_varint, varint, varint_len},
};
use bytes::Bytes;

/// What comes in.
#[derive(Clone, Copy, Debug)]
enum Insert {
    Nothing,
    /// The length of a message.
    Len(u32),
    /// One of the texts that the caller names by number.
    Text(u8),
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    at: u32,
    remove: u32,
    insert: Insert,
}

/// Edits, in the order of their places.
#[derive(Debug, Default)]
pub(crate) struct Splice {
    edits: Vec<Edit>,
    /// Bytes that come in, over all.
    added: usize,
    /// Bytes that go out, over all.
    removed: usize,
}

/// A message whose length may change.
#[derive(Debug)]
pub(crate) struct Open {
    index: usize,
    added: usize,
    removed: usize,
    /// Of the message before the edits.
    len: usize,
}

impl Splice {
    /// Longest source: places have 32 bits.
    pub(crate) const MAX_LEN: usize = u32::MAX as usize;

    /// Takes bytes out.
    pub(crate) fn remove(&mut self, at: usize, len: usize) {
        self.push(at, len, Insert::Nothing);
        self.removed += len;
    }

    /// Puts the text of this number, which has so many bytes, before a place.
    pub(crate) fn insert(&mut self, at: usize, text: u8, len: usize) {
        self.push(at, 0, Insert::Text(text));
        self.added += len;
    }

    /// Begins a message of `len` bytes whose length is written at `at` in `width` bytes.
    pub(crate) fn open(&mut self, at: usize, width: usize, len: usize) -> Open {
        let open = Open { index: self.edits.len(), added: self.added, removed: self.removed, len };
        self.push(at, width, Insert::Nothing);
        open
    }

    /// Begins the message in a field of the source.
    pub(crate) fn open_field(&mut self, source: &[u8], entry: &Entry) -> Open {
        // A key, then the length: the key is as long as its number wants unless it was padded.
        let mut at = entry.start;
        // It was read before.
        let _ = varint(source, &mut at);
        self.open(at, entry.body - at, entry.end - entry.body)
    }

    /// Bytes that have come in so far.
    pub(crate) fn added(&self) -> usize {
        self.added
    }

    /// Ends the message; without edits since its length is left as it was written.
    pub(crate) fn close(&mut self, open: &Open) {
        if self.edits.len() == open.index + 1 {
            self.edits.truncate(open.index);
        } else {
            self.write_len(open, open.len);
        }
    }

    /// Ends a message whose length was not known: it has one byte for it so far, and `len` bytes before the edits.
    /// Returns the length if it fits into that byte.
    pub(crate) fn close_with(&mut self, open: &Open, len: usize) -> Option<u8> {
        let short = u8::try_from(len).ok().filter(|len| *len < 0x80);
        // Edits inside are lengths of at least 128: then this one is too.
        if short.is_some() && self.edits.len() == open.index + 1 {
            self.edits.truncate(open.index);
            return short;
        }
        self.write_len(open, len);
        None
    }

    fn write_len(&mut self, open: &Open, len: usize) {
        let len = (len + (self.added - open.added)).saturating_sub(self.removed - open.removed);
        let edit = &mut self.edits[open.index];
        edit.insert = Insert::Len(len as u32);
        self.added += varint_len(len as u64);
        self.removed += edit.remove as usize;
    }

    /// Nothing is changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The source with the edits made.
    pub(crate) fn apply(&self, source: &[u8], texts: &[&[u8]]) -> Bytes {
        let len = (source.len() + self.added).saturating_sub(self.removed);
        let mut out = Room::new(len);
        out.reserve(len);
        let (mut at, mut number) = (0, Vec::new());
        for edit in &self.edits {
            out.extend(&source[at..edit.at as usize]);
            match edit.insert {
                Insert::Nothing => {}
                Insert::Len(len) => {
                    number.clear();
                    put_varint(u64::from(len), &mut number);
                    out.extend(&number);
                }
                Insert::Text(number) => out.extend(texts[usize::from(number)]),
            }
            at = edit.at as usize + edit.remove as usize;
        }
        out.extend(&source[at..]);
        out.into_bytes()
    }

    fn push(&mut self, at: usize, remove: usize, insert: Insert) {
        self.edits.push(Edit { at: at as u32, remove: remove as u32, insert });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_what_is_inside() {
        // A message of 126 bytes in one of 128 bytes.
        let source = [&[0x0a, 0x80, 0x01, 0x0a, 126][..], &[b'x'; 126]].concat();
        let mut splice = Splice::default();
        let outer = splice.open(1, 2, 128);
        let inner = splice.open(4, 1, 126);
        splice.remove(5, 1);
        splice.insert(10, 0, 3);
        splice.close(&inner);
        splice.close(&outer);
        let out = splice.apply(&source, &[b"new"]);
        assert_eq!(out[..6], [0x0a, 0x83, 0x01, 0x0a, 0x80, 0x01]);
        assert_eq!(&out[6..], [&b"xxxxnew"[..], &[b'x'; 121]].concat());
    }

    #[test]
    fn an_untouched_message_keeps_its_length() {
        let mut splice = Splice::default();
        let outer = splice.open(1, 2, 0);
        splice.close(&outer);
        assert!(splice.is_empty());
        assert_eq!(splice.apply(&[0x0a, 0x80, 0x00], &[]), &[0x0a, 0x80, 0x00][..]);
    }

    #[test]
    fn an_edit_is_small() {
        assert!(size_of::<Edit>() <= 16);
    }
}
