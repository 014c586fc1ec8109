//! Names of older files, and which of them go.

use hesper_collector_config::exporters::Rotation;
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description,
};

/// As the Collector names them: `data-2026-11-22T18-40-06.123.json`.
const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");

/// An older file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Older {
    pub(super) path: PathBuf,
    pub(super) since: SystemTime,
    pub(super) size: u64,
}

/// The name under which a file is put aside at a time, in UTC. `try_no`: for a name that is taken, a little later.
pub(super) fn put_aside(path: &Path, now: SystemTime, try_no: u32) -> PathBuf {
    let (stem, extension) = parts(path);
    let at = OffsetDateTime::from(now + Duration::from_millis(try_no.into()));
    // The pattern has nothing that could fail.
    let stamp = at.format(STAMP).unwrap_or_default();
    path.with_file_name(format!("{stem}-{stamp}{extension}"))
}

/// When a file was put aside, if its name says that it once was `path`.
pub(super) fn put_aside_at(path: &Path, name: &str) -> Option<SystemTime> {
    let (stem, extension) = parts(path);
    let stamp = name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension)?;
    let at = PrimitiveDateTime::parse(stamp, STAMP).ok()?;
    Some(at.assume_utc().into())
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|extension| format!(".{extension}"));
    (text(path.file_stem()).unwrap_or_default(), extension.unwrap_or_default())
}

/// The older files that go. The current file may become as large as the rotation allows, and counts so.
pub(super) fn gone(mut older: Vec<Older>, rotation: &Rotation, now: SystemTime) -> Vec<PathBuf> {
    older.sort_by_key(|file| std::cmp::Reverse(file.since));
    let most = usize::try_from(rotation.max_backups).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
    let mut room = rotation.max_total_size.map(|total| total.saturating_sub(rotation.max_size));
    let mut gone = Vec::new();
    for (index, file) in older.into_iter().enumerate() {
        let age = now.duration_since(file.since).unwrap_or_default();
        let fits = match &mut room {
            Some(room) if *room >= file.size => {
                *room -= file.size;
                true
            }
            // What is older than one that goes, goes too.
            Some(room) => {
                *room = 0;
                false
            }
            None => true,
        };
        if index >= most || !fits || rotation.max_age.is_some_and(|most| age > most) {
            gone.push(file.path);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn rotation() -> Rotation {
        Rotation { max_size: 10, max_age: None, max_backups: 0, localtime: false, max_total_size: None }
    }

    #[test]
    fn names_say_when_a_file_was_put_aside() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_372_806_123);
        for (path, name) in [
            ("/x/data.json", "/x/data-2026-11-22T18-40-06.123.json"),
            ("/x/data", "/x/data-2026-11-22T18-40-06.123"),
            ("/x/a.b.c", "/x/a.b-2026-11-22T18-40-06.123.c"),
        ] {
            let aside = put_aside(Path::new(path), at, 0);
            assert_eq!(aside, Path::new(name));
            let file = aside.file_name().expect("a name").to_string_lossy().into_owned();
            assert_eq!(put_aside_at(Path::new(path), &file), Some(at));
            assert_ne!(put_aside(Path::new(path), at, 1), aside);
        }
        for other in
            ["data.json", "data-1.json", "data-2026-11-22T18-40-06.123.txt", "x-2026-11-22T18-40-06.123.json"]
        {
            assert_eq!(put_aside_at(Path::new("/x/data.json"), other), None, "{other}");
        }
    }

    #[test]
    fn the_oldest_go_first() {
        let now = SystemTime::UNIX_EPOCH + 100 * DAY;
        let older = |days: u32, size| Older { path: days.to_string().into(), since: now - days * DAY, size };
        let files = vec![older(3, 4), older(1, 4), older(5, 4), older(2, 4)];
        let left = |rotation: &Rotation| {
            let gone = gone(files.clone(), rotation, now);
            gone.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(left(&rotation()), "");
        assert_eq!(left(&Rotation { max_backups: 1, ..rotation() }), "2 3 5");
        assert_eq!(left(&Rotation { max_age: Some(3 * DAY), ..rotation() }), "5");
        assert_eq!(left(&Rotation { max_total_size: Some(18), ..rotation() }), "3 5");
        assert_eq!(left(&Rotation { max_total_size: Some(10), ..rotation() }), "1 2 3 5");
    }
}
