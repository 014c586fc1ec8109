//! How batches are called towards the next gateway: a random queue id, and the number in the queue.
//!
//! A number must never name two batches: the next gateway would take the second one for a repetition, and drop it. A disk that
//! lost what it said it had would make the log use numbers anew. So each process that appends has an id of its own; the file `queue-id`
//! keeps those of earlier ones, for what they left.

use super::{
    files,
    ledger::{frame, unframe},
};
use crate::origin::BatchId;
use hesper_queue::Disk;
use std::io;

/// The file in the log's directory.
const FILE: &str = "queue-id";
const MAGIC: &[u8; 8] = b"HESPERI1";
/// Bytes of one entry: the first number, the id.
const ENTRY: usize = 24;
/// No file is longer, bytes.
const FILE_MAX: u64 = 1 << 20;

/// The ids of a queue, by the first number that each is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueIds(Vec<(u64, [u8; 16])>);

impl QueueIds {
    /// Those of a queue in memory.
    pub(crate) fn random() -> Self {
        Self(vec![(0, rand::random())])
    }

    /// Reads the ids of a log whose oldest record is `oldest`, and begins a new one for the records from `next` on. Ids that cannot be read
    /// are replaced: what was sent under them may arrive twice.
    pub(crate) fn open(disk: &dyn Disk, oldest: u64, next: u64) -> io::Result<Self> {
        let file = files::read(disk, FILE, FILE_MAX)?;
        let mut ids = file.as_deref().and_then(Self::decode).unwrap_or(Self(Vec::new()));
        ids.begin(oldest, next, rand::random());
        files::write(disk, FILE, &ids.encode())?;
        Ok(ids)
    }

    fn begin(&mut self, oldest: u64, next: u64, id: [u8; 16]) {
        // Those of numbers that are to come were never used, unless the disk has lost them.
        self.0.retain(|(from, _)| *from < next);
        // The last one that begins at or before the oldest record, and all after it.
        let needed = self.0.iter().rposition(|(from, _)| *from <= oldest).unwrap_or(0);
        self.0.drain(..needed);
        if oldest >= next {
            self.0.clear();
        }
        self.0.push((next, id));
    }

    /// The name of a batch.
    pub(crate) fn name(&self, number: u64) -> BatchId {
        let at = self.0.partition_point(|(from, _)| *from <= number).saturating_sub(1);
        BatchId { queue: self.0.get(at).map_or([0; 16], |(_, id)| *id), number }
    }

    fn encode(&self) -> Vec<u8> {
        let body: Vec<u8> =
            self.0.iter().flat_map(|(from, id)| [&from.to_le_bytes()[..], id].concat()).collect();
        frame(MAGIC, &body)
    }

    fn decode(file: &[u8]) -> Option<Self> {
        let body = unframe(MAGIC, file)?;
        let read = |entry: &[u8]| {
            let (from, id) = entry.split_at_checked(8)?;
            Some((u64::from_le_bytes(from.try_into().ok()?), id.try_into().ok()?))
        };
        body.chunks(ENTRY).map(read).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_name_and_no_name_is_given_twice() {
        let mut ids = QueueIds(Vec::new());
        ids.begin(1, 1, [1; 16]);
        let first = ids.name(5);
        ids.begin(3, 10, [2; 16]);
        assert_eq!(ids.name(5), first);
        assert_eq!(ids.name(10), BatchId { queue: [2; 16], number: 10 });
        // The disk has lost the records from 7 on.
        let lost = ids.name(10);
        ids.begin(3, 7, [3; 16]);
        assert_eq!((ids.name(5), ids.name(10)), (first, BatchId { queue: [3; 16], number: 10 }));
        assert_ne!(ids.name(10), lost);
        ids.begin(9, 12, [4; 16]);
        assert_eq!(ids.0, [(7, [3; 16]), (12, [4; 16])], "nobody has the first any more");
        assert_eq!(QueueIds::decode(&ids.encode()), Some(ids.clone()));
        ids.begin(12, 12, [5; 16]);
        assert_eq!(ids.0, [(12, [5; 16])], "nothing is left");
    }

    #[test]
    fn a_file_that_is_not_whole_is_replaced() {
        let disk = hesper_queue::faulty::FaultyDisk::new();
        let ids = QueueIds::open(&disk, 1, 1).expect("opened");
        disk.put(FILE, b"HESPERI1nonsense");
        let others = QueueIds::open(&disk, 1, 5).expect("opened");
        assert_ne!(ids.name(1).queue, others.name(5).queue);
        assert_eq!(QueueIds::open(&disk, 1, 9).expect("opened").name(5), others.name(5));
    }
}
