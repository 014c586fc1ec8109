//! A disk in memory that keeps no more than a disk must: the power can be cut at any moment, it can be full, and it can fail.
//!
//! - A **power cut** loses what was not synchronised, in blocks of 16 bytes: each one may be there or not.
//!   Names come back as they were after some of the changes since the last [`Disk::sync_names`], in their order.
//! - A **restart** ends the process: files are as they were, everybody who had the disk before gets errors.
//! - A failed `sync` leaves bytes that can be read and will never be durable, as Linux does.

use crate::disk::{Disk, DiskFile};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is lost or kept as one by a power cut.
const BLOCK: usize = 16;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Disk::create`].
    Create,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::set_size`].
    SetSize,
    /// [`DiskFile::sync`].
    Sync,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_names`].
    SyncNames,
}

/// A handle of the disk, as one process has it.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    shared: Arc<Mutex<Platter>>,
    /// Whoever has it holds back every `sync`.
    gate: Arc<Mutex<()>>,
    process: u64,
}

#[derive(Debug, Default)]
struct Platter {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    process: u64,
    locked: bool,
    /// Calls that change something, so far.
    changed: u64,
    cut_at: Option<u64>,
    failing: BTreeMap<Call, u64>,
    room: Option<usize>,
}

#[derive(Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(String, usize),
    Rename(String, String),
    Remove(String),
}

struct OpenFile {
    disk: FaultyDisk,
    file: usize,
}

struct Lock(FaultyDisk);

impl Default for FaultyDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultyDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self { shared: Arc::default(), gate: Arc::default(), process: 0 }
    }

    /// Ends the process that has the disk; the handle of the next one.
    pub fn restart(&self) -> Self {
        let mut platter = self.platter();
        platter.end_process();
        Self { process: platter.process, ..self.clone() }
    }

    /// Cuts the power; the handle of the process after it. What of the unsynchronised survives follows from `seed`.
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut platter = self.platter();
        platter.end_process();
        platter.lose(&mut Random(seed));
        Self { process: platter.process, ..self.clone() }
    }

    /// Ends the process, as a power cut would, at its `calls`-th call from now that changes something.
    pub fn end_after(&self, calls: u64) {
        let mut platter = self.platter();
        platter.cut_at = Some(platter.changed + calls);
    }

    /// Whether the process of this handle has ended.
    pub fn has_ended(&self) -> bool {
        self.platter().process != self.process
    }

    /// Calls so far that change something.
    pub fn changes(&self) -> u64 {
        self.platter().changed
    }

    /// Makes the next `times` calls of that kind fail with EIO.
    pub fn fail(&self, call: Call, times: u64) {
        self.platter().failing.insert(call, times);
    }

    /// Makes every [`DiskFile::sync`] wait until the guard is dropped.
    pub fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that all files may have together; what is beyond ends with ENOSPC, half written.
    pub fn set_room(&self, room: Option<usize>) {
        self.platter().room = room;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> usize {
        self.platter().used()
    }

    /// What a file holds; `None` when there is none.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let platter = self.platter();
        platter.names.get(name).map(|file| platter.files[*file].bytes.clone())
    }

    /// Puts a file there, durable, in the place of one that may have that name.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut platter = self.platter();
        let file = platter.files.len();
        platter.files.push(Contents { bytes: bytes.into(), durable: bytes.into(), dirty: BTreeSet::new() });
        platter.names.insert(name.into(), file);
        platter.durable_names.insert(name.into(), file);
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk for a call; refused when the process has ended or the call is to fail.
    fn call(&self, call: Option<Call>) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.platter();
        let ended = || io::Error::other("this process has ended");
        if platter.process != self.process {
            return Err(ended());
        }
        let Some(call) = call else { return Ok(platter) };
        if call != Call::Read {
            platter.changed += 1;
            if platter.cut_at.is_some_and(|at| platter.changed > at) {
                platter.end_process();
                return Err(ended());
            }
        }
        match platter.failing.get_mut(&call).filter(|times| **times > 0) {
            Some(times) => {
                *times -= 1;
                Err(io::Error::from_raw_os_error(EIO))
            }
            None => Ok(platter),
        }
    }
}

impl Platter {
    fn end_process(&mut self) {
        self.process += 1;
        self.locked = false;
        self.cut_at = None;
        self.failing.clear();
    }

    fn lose(&mut self, random: &mut Random) {
        let kept = random.below(self.changes.len() as u64 + 1) as usize;
        let changes: Vec<_> = self.changes.drain(..).take(kept).collect();
        changes.iter().for_each(|change| change.apply(&mut self.durable_names));
        self.names = self.durable_names.clone();
        for file in &mut self.files {
            file.lose(random);
        }
    }

    fn used(&self) -> usize {
        self.names.values().map(|file| self.files[*file].bytes.len()).sum()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Contents {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        let from = self.bytes.len().min(offset);
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(bytes);
        self.dirty.extend(from / BLOCK..end.div_ceil(BLOCK));
    }

    fn sync(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for block in std::mem::take(&mut self.dirty) {
            copy_block(&self.bytes, &mut self.durable, block);
        }
    }

    fn lose(&mut self, random: &mut Random) {
        let (least, most) =
            (self.bytes.len().min(self.durable.len()), self.bytes.len().max(self.durable.len()));
        let size = least + random.below((most - least) as u64 + 1) as usize;
        self.durable.resize(size, 0);
        for block in std::mem::take(&mut self.dirty) {
            if random.below(2) == 0 {
                copy_block(&self.bytes, &mut self.durable, block);
            }
        }
        self.bytes = self.durable.clone();
    }
}

/// The part of the block that both have.
fn copy_block(from: &[u8], to: &mut [u8], block: usize) {
    let start = block * BLOCK;
    let end = (start + BLOCK).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

impl Disk for FaultyDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut platter = self.call(None)?;
        if std::mem::replace(&mut platter.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.call(None)?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut platter = self.call(Some(Call::Create))?;
        let file = platter.files.len();
        platter.files.push(Contents::default());
        platter.change(Change::Link(name.into(), file));
        Ok(Arc::new(OpenFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.call(None)?.find(name)?;
        Ok(Arc::new(OpenFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut platter = self.call(Some(Call::Rename))?;
        platter.find(from)?;
        platter.change(Change::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut platter = self.call(Some(Call::Remove))?;
        platter.find(name)?;
        platter.change(Change::Remove(name.into()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut platter = self.call(Some(Call::SyncNames))?;
        platter.changes.clear();
        platter.durable_names = platter.names.clone();
        Ok(())
    }
}

impl DiskFile for OpenFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.call(None)?.files[self.file].bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let platter = self.disk.call(Some(Call::Read))?;
        let left = platter.files[self.file].bytes.get(offset as usize..).unwrap_or_default();
        let read = left.len().min(buffer.len());
        buffer[..read].copy_from_slice(&left[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let failed = self.disk.call(Some(Call::Write)).map(drop);
        let mut platter = self.disk.call(None)?;
        let grows = (offset as usize + bytes.len()).saturating_sub(platter.files[self.file].bytes.len());
        let room = platter.room.map_or(usize::MAX, |room| room.saturating_sub(platter.used()));
        let file = &mut platter.files[self.file];
        match failed {
            Err(error) => {
                file.write(&bytes[..bytes.len() / 2], offset as usize);
                Err(error)
            }
            Ok(()) if grows > room => {
                file.write(&bytes[..bytes.len() - (grows - room)], offset as usize);
                Err(io::Error::from_raw_os_error(ENOSPC))
            }
            Ok(()) => {
                file.write(bytes, offset as usize);
                Ok(())
            }
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut platter = self.disk.call(Some(Call::SetSize))?;
        platter.files[self.file].bytes.resize(size as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        drop(self.disk.hold_syncs());
        let synced = self.disk.call(Some(Call::Sync)).map(drop);
        let mut platter = self.disk.call(None)?;
        let file = &mut platter.files[self.file];
        match synced {
            Ok(()) => file.sync(),
            // Linux takes the pages for clean after it has told of the error once.
            Err(_) => file.dirty.clear(),
        }
        synced
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut platter) = self.0.call(None) {
            platter.locked = false;
        }
    }
}

/// SplitMix64: the same losses for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
