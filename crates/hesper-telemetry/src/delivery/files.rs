//! Small files that are whole or not there.

use hesper_queue::Disk;
use std::io;

/// Replaces a file: after this it has these bytes even if the power is cut, and before, the old ones.
pub(crate) fn write(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    // The log removes what ends so when it is opened.
    let temporary = format!("{name}.tmp");
    let written = || {
        let file = disk.create(&temporary)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&temporary, name)?;
        disk.sync_names()
    };
    written().inspect_err(|_| {
        // It may be the room that is missing.
        let _ = disk.remove(&temporary);
    })
}

/// Reads a file; `None` when it is not there, or longer than `max` bytes.
pub(crate) fn read(disk: &dyn Disk, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let Some(size) = file.size().ok().filter(|size| *size <= max) else { return Ok(None) };
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    let mut at = 0;
    while at < bytes.len() {
        match file.read_at(&mut bytes[at..], at as u64)? {
            0 => break,
            read => at += read,
        }
    }
    bytes.truncate(at);
    Ok(Some(bytes))
}
