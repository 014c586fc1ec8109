//! One request as several, and several as one: for peers that take less than we were sent, and for batches of a wanted size.
//!
//! A request is divided at its resources, else at their scopes, else at the items; metrics at their data points. Whatever a piece is
//! inside of is repeated in it: the resource, the scope, what a metric says besides its points, the dictionary of profiles. Order stays.

use crate::{
    Signal,
    schema::{METRICS_METRIC, Shape, number},
    validate::{count, data_points},
    wire::{Entry, Fields, Value, put_len_key, put_varint, varint_len},
};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::Range};

/// Request, resource, scope, metric, its data.
const DEPTH: usize = 5;

/// Divides a request so that no piece has more than `max` bytes. The payload is one that [`validate`](crate::validate()) accepted.
///
/// What cannot be divided is returned as it is, larger than `max`: an item alone, and what stands in a resource, a scope or a
/// dictionary of more than three quarters of `max`, which would be repeated too often. All pieces together have at most some eight
/// times the bytes of the payload.
pub fn split(signal: Signal, payload: &Bytes, max: usize) -> Vec<Bytes> {
    if payload.len() <= max {
        return vec![payload.clone()];
    }
    divide(signal, payload, max, u64::MAX, max / 4 * 3)
}

/// Divides a request so that no piece has more than `max` items ([`Signal::items`]); `max` of 0 counts as 1. What would repeat so
/// long a resource, scope or dictionary that the pieces have sixteen times the bytes of the payload is not divided: no honest sender's is.
pub fn split_items(signal: Signal, payload: &Bytes, max: u64) -> Vec<Bytes> {
    const REPEATED: usize = 256 << 20;
    let items = count(signal, payload).items;
    if items <= max {
        return vec![payload.clone()];
    }
    let pieces = usize::try_from(items.div_ceil(max.max(1))).unwrap_or(usize::MAX);
    // A few KiB may be repeated even where items are tiny.
    let header = (payload.len().saturating_mul(16) / pieces).max((REPEATED / pieces).min(4096));
    divide(signal, payload, usize::MAX, max.max(1), header)
}

/// Divides a request by its resources: those of one group together, in their order. `groups` has the group of each resource, as
/// [`resource::said`](crate::resource::said()) goes through them; the pieces are in the order of the groups. What is not in
/// a resource (the dictionary of profiles) is in every piece.
pub fn split_groups<G: Ord>(signal: Signal, payload: &Bytes, groups: Vec<G>) -> BTreeMap<G, Bytes> {
    let fields = || Fields::new(payload, 0..payload.len(), 0, "").filter_map(Result::ok);
    let is_resource = |entry: &Entry| entry.number == number::RESOURCES && entry.value == Value::Len;
    let mut common = Vec::new();
    if signal == Signal::Profiles {
        fields()
            .filter(|entry| !is_resource(entry))
            .for_each(|e| common.extend_from_slice(&payload[e.start..e.end]));
    }
    let mut pieces: BTreeMap<G, Vec<u8>> = BTreeMap::new();
    for (group, entry) in groups.into_iter().zip(fields().filter(is_resource)) {
        let piece = pieces.entry(group).or_insert_with(|| common.clone());
        piece.extend_from_slice(&payload[entry.start..entry.end]);
    }
    pieces.into_iter().map(|(group, piece)| (group, piece.into())).collect()
}

/// Puts requests of a signal together, in their order. None for profiles: their dictionaries differ.
pub fn merge(signal: Signal, payloads: &[Bytes]) -> Option<Bytes> {
    match payloads {
        [one] => Some(one.clone()),
        _ if signal == Signal::Profiles => None,
        // Resources are a repeated field: one after the other is the whole list.
        _ => Some(payloads.concat().into()),
    }
}

fn divide(signal: Signal, payload: &Bytes, max: usize, max_items: u64, most_header: usize) -> Vec<Bytes> {
    let mut tree = Tree { payload, signal, most_header, containers: Vec::new(), leaves: Vec::new() };
    let root = Container { parent: 0, number: 0, level: 0, header: Vec::new(), header_len: 0 };
    if tree.add(root, 0..payload.len(), 0).is_none() || tree.leaves.len() < 2 {
        return vec![payload.clone()];
    }
    let ranges = tree.pack(max, max_items);
    if ranges.len() < 2 {
        return vec![payload.clone()];
    }
    ranges.into_iter().map(|range| tree.encode(range)).collect()
}

/// A message that may be divided.
#[derive(Debug)]
struct Container {
    /// The root is its own.
    parent: usize,
    /// Of its field in the parent.
    number: u32,
    level: usize,
    /// What is repeated in each piece.
    header: Vec<Range<usize>>,
    header_len: usize,
}

/// Bytes that stay together, with their key and length.
#[derive(Debug)]
struct Leaf {
    parent: usize,
    range: Range<usize>,
    items: u64,
}

struct Tree<'a> {
    payload: &'a Bytes,
    signal: Signal,
    /// Longest header, with all around it, that may be repeated.
    most_header: usize,
    containers: Vec<Container>,
    leaves: Vec<Leaf>,
}

/// What a child of a container is.
enum Child {
    Header,
    Container,
    Leaf,
}

impl Tree<'_> {
    /// Adds a container and all in it; what it repeats has `around` bytes outside of it. None when its bytes are no message.
    fn add(&mut self, mut container: Container, range: Range<usize>, around: usize) -> Option<()> {
        let (level, index) = (container.level, self.containers.len());
        let divisible = level != 3 || self.data_fields(range.clone())? == 1;
        let mut children = Vec::new();
        for entry in Fields::new(self.payload, range, level as u32, "") {
            let entry = entry.ok()?;
            match self.child(level, &entry, divisible) {
                Child::Header => container.add_header(entry.start..entry.end),
                _ => children.push(entry),
            }
        }
        let around = around + container.header_len;
        if children.is_empty() || around > self.most_header {
            // It stays whole: one leaf of its parent.
            return (level > 0).then_some(());
        }
        self.containers.push(container);
        for entry in children {
            let before = (self.containers.len(), self.leaves.len());
            if matches!(self.child(level, &entry, true), Child::Container) {
                let inner = Container {
                    parent: index,
                    number: entry.number,
                    level: level + 1,
                    header: Vec::new(),
                    header_len: 0,
                };
                self.add(inner, entry.range(), around)?;
            }
            if before == (self.containers.len(), self.leaves.len()) {
                let items = self.items(level, &entry);
                self.leaves.push(Leaf { parent: index, range: entry.start..entry.end, items });
            }
        }
        Some(())
    }

    fn child(&self, level: usize, entry: &Entry, divisible: bool) -> Child {
        if !divisible || entry.value != Value::Len {
            return Child::Header;
        }
        let metrics = self.signal == Signal::Metrics;
        match (level, entry.number) {
            (0, number::RESOURCES) | (1, number::SCOPES) => Child::Container,
            (2, number::ITEMS) if metrics => Child::Container,
            (2, number::ITEMS) => Child::Leaf,
            (3, number) if is_data(number) => Child::Container,
            (4, number::DATA_POINTS) => Child::Leaf,
            _ => Child::Header,
        }
    }

    /// How many fields of a metric are its data: only of an honest one.
    fn data_fields(&self, metric: Range<usize>) -> Option<usize> {
        let mut count = 0;
        for entry in Fields::new(self.payload, metric, 3, "") {
            count += usize::from(is_data(entry.ok()?.number));
        }
        Some(count)
    }

    /// Items in a child of a container of this level.
    fn items(&self, level: usize, entry: &Entry) -> u64 {
        let inside = |range: Range<usize>, number: u32| {
            let fields = Fields::new(self.payload, range, 0, "").filter_map(Result::ok);
            fields.filter(move |entry| entry.number == number && entry.value == Value::Len)
        };
        let of_item = |item: Entry| match self.signal {
            Signal::Metrics => data_points(self.payload, item.range()),
            _ => 1,
        };
        let of_scope = |scope: Entry| inside(scope.range(), number::ITEMS).map(of_item).sum();
        match level {
            0 => inside(entry.range(), number::SCOPES).map(of_scope).sum(),
            1 => of_scope(*entry),
            2 => of_item(*entry),
            3 => inside(entry.range(), number::DATA_POINTS).count() as u64,
            _ => 1,
        }
    }

    /// The leaves of each piece.
    fn pack(&self, max: usize, max_items: u64) -> Vec<Range<usize>> {
        let (mut ranges, mut begin) = (Vec::new(), 0);
        let (mut open, mut items) = (Open::default(), 0_u64);
        for (index, leaf) in self.leaves.iter().enumerate() {
            let mut with = open;
            with.enter(self, leaf.parent);
            with.grow(leaf.range.len());
            if index > begin && (with.total() > max || items.saturating_add(leaf.items) > max_items) {
                ranges.push(begin..index);
                (begin, items, with) = (index, 0, Open::default());
                with.enter(self, leaf.parent);
                with.grow(leaf.range.len());
            }
            (open, items) = (with, items.saturating_add(leaf.items));
        }
        ranges.push(begin..self.leaves.len());
        ranges
    }

    /// From the root to a container.
    fn path(&self, of: usize) -> ([usize; DEPTH], usize) {
        let (mut path, mut at) = ([0; DEPTH], of);
        let len = self.containers[of].level + 1;
        for place in path[..len].iter_mut().rev() {
            *place = at;
            at = self.containers[at].parent;
        }
        (path, len)
    }

    fn encode(&self, leaves: Range<usize>) -> Bytes {
        // Twice the same way: the first time for the lengths, which stand before what they measure.
        let mut lens = Lens::default();
        self.walk(leaves.clone(), &mut lens);
        let mut writer =
            Writer { tree: self, lens: lens.done.into_iter(), out: Vec::with_capacity(lens.root) };
        self.walk(leaves, &mut writer);
        writer.out.into()
    }

    fn walk(&self, leaves: Range<usize>, visitor: &mut impl Visitor) {
        let (mut open, mut depth) = ([0; DEPTH], 0);
        for leaf in &self.leaves[leaves] {
            let (path, len) = self.path(leaf.parent);
            let same = (0..depth.min(len)).take_while(|level| open[*level] == path[*level]).count();
            (same..depth).for_each(|_| visitor.close());
            for container in &path[same..len] {
                visitor.open(&self.containers[*container]);
            }
            visitor.leaf(leaf);
            (open, depth) = (path, len);
        }
        (0..depth).for_each(|_| visitor.close());
    }
}

impl Container {
    fn add_header(&mut self, range: Range<usize>) {
        self.header_len += range.len();
        match self.header.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => self.header.push(range),
        }
    }
}

fn is_data(number: u32) -> bool {
    METRICS_METRIC.field(number).is_some_and(|field| field.shape == Shape::Oneof)
}

/// The bytes of a message with its key and length.
fn framed_len(number: u32, len: usize) -> usize {
    varint_len(u64::from(number) << 3) + varint_len(len as u64) + len
}

/// The containers around the last leaf, and how long each is so far.
#[derive(Clone, Copy, Default)]
struct Open {
    path: [(usize, u32, usize); DEPTH],
    depth: usize,
}

impl Open {
    fn enter(&mut self, tree: &Tree<'_>, container: usize) {
        let (path, len) = tree.path(container);
        let same = (0..self.depth.min(len)).take_while(|level| self.path[*level].0 == path[*level]).count();
        while self.depth > same.max(1) {
            self.depth -= 1;
            let (_, number, len) = self.path[self.depth];
            self.path[self.depth - 1].2 += framed_len(number, len);
        }
        for index in &path[same..len] {
            let container = &tree.containers[*index];
            self.path[self.depth] = (*index, container.number, container.header_len);
            self.depth += 1;
        }
    }

    fn grow(&mut self, len: usize) {
        self.path[self.depth.saturating_sub(1)].2 += len;
    }

    fn total(&self) -> usize {
        let outward = self.path[..self.depth].iter().rev();
        outward
            .fold((0, 0), |(inner, number), (_, of, len)| {
                (len + if number == 0 { 0 } else { framed_len(number, inner) }, *of)
            })
            .0
    }
}

trait Visitor {
    fn open(&mut self, container: &Container);
    fn leaf(&mut self, leaf: &Leaf);
    fn close(&mut self);
}

/// Finds the length of each container, in the order in which they begin.
#[derive(Default)]
struct Lens {
    done: Vec<usize>,
    open: Vec<(usize, u32)>,
    root: usize,
}

impl Visitor for Lens {
    fn open(&mut self, container: &Container) {
        self.open.push((self.done.len(), container.number));
        self.done.push(container.header_len);
    }

    fn leaf(&mut self, leaf: &Leaf) {
        if let Some((index, _)) = self.open.last() {
            self.done[*index] += leaf.range.len();
        }
    }

    fn close(&mut self) {
        let Some((index, number)) = self.open.pop() else { return };
        let len = self.done[index];
        match self.open.last() {
            Some((outer, _)) => self.done[*outer] += framed_len(number, len),
            None => self.root = len,
        }
    }
}

struct Writer<'a> {
    tree: &'a Tree<'a>,
    lens: std::vec::IntoIter<usize>,
    out: Vec<u8>,
}

impl Visitor for Writer<'_> {
    fn open(&mut self, container: &Container) {
        let len = self.lens.next().unwrap_or_default();
        if container.level > 0 {
            put_len_key(container.number, &mut self.out);
            put_varint(len as u64, &mut self.out);
        }
        for range in &container.header {
            self.out.extend_from_slice(&self.tree.payload[range.clone()]);
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        self.out.extend_from_slice(&self.tree.payload[leaf.range.clone()]);
    }

    fn close(&mut self) {}
}
