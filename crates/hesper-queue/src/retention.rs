//! Which segment goes. Only the oldest one ever does, so this is asked again until it stays.

use crate::{DropReason, Options, WhenFull};

/// The oldest segment, and how things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oldest {
    /// Past its last record.
    pub(crate) end: u64,
    /// The time of its newest record, ms.
    pub(crate) newest_ms: u64,
    /// No other segment follows. The last one stays as a file: it says where the numbers are.
    pub(crate) is_last: bool,
    /// The lowest record that any destination has not acknowledged; `None` without destinations.
    pub(crate) lowest: Option<u64>,
    /// The same as written down.
    pub(crate) lowest_saved: Option<u64>,
    /// All segments, bytes.
    pub(crate) stored: u64,
}

/// Why somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// Just so.
    Sweep,
    /// A group of so many bytes is to be written.
    Write(u64),
    /// The disk is full.
    DiskFull,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Everybody is past it: the file goes.
    Delete,
    /// The same, after an attempt to write that down.
    SaveAndDelete,
    /// Whoever is not past it loses what is in it. Then it is asked again.
    Drop(DropReason),
}

/// Decides.
pub(crate) fn judge(oldest: &Oldest, occasion: Occasion, now_ms: u64, options: &Options) -> Verdict {
    let past = |lowest: Option<u64>| lowest.is_some_and(|lowest| lowest >= oldest.end);
    // A cursor that cannot be written since the disk is full must not keep the disk full.
    let saved = if occasion == Occasion::DiskFull { oldest.lowest } else { oldest.lowest_saved };
    if !oldest.is_last && past(saved) {
        return Verdict::Delete;
    }
    // Of the last segment the records go and the file stays: without anybody to lose them there is nothing to do.
    let done = past(oldest.lowest) || (oldest.is_last && oldest.lowest.is_none());
    let max_age = options.max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    if !done && max_age.is_some_and(|age| now_ms.saturating_sub(oldest.newest_ms) > age) {
        return Verdict::Drop(DropReason::Age);
    }
    if options.when_full != WhenFull::DropOldest || oldest.is_last {
        return Verdict::Keep;
    }
    match occasion {
        Occasion::Write(bytes) if oldest.stored + bytes > options.max_bytes => {
            if done {
                Verdict::SaveAndDelete
            } else {
                Verdict::Drop(DropReason::Cap)
            }
        }
        Occasion::DiskFull => Verdict::Drop(DropReason::DiskFull),
        _ => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const OLDEST: Oldest = Oldest {
        end: 10,
        newest_ms: 1000,
        is_last: false,
        lowest: Some(5),
        lowest_saved: Some(3),
        stored: 900,
    };

    fn options(when_full: WhenFull) -> Options {
        Options { when_full, max_bytes: 1000, max_age: Some(Duration::from_secs(1)), ..Options::default() }
    }

    #[test]
    fn a_segment_goes_when_everybody_is_past_it() {
        let block = options(WhenFull::Block);
        let judge = |oldest, occasion| judge(&oldest, occasion, 1000, &block);
        let done = Oldest { lowest: Some(10), ..OLDEST };
        let saved = Oldest { lowest_saved: Some(10), ..done };
        assert_eq!(judge(OLDEST, Occasion::DiskFull), Verdict::Keep);
        assert_eq!(judge(done, Occasion::Sweep), Verdict::Keep, "not yet written down");
        assert_eq!(judge(done, Occasion::DiskFull), Verdict::Delete, "it cannot be written down");
        assert_eq!(judge(saved, Occasion::Sweep), Verdict::Delete);
        assert_eq!(judge(Oldest { is_last: true, ..saved }, Occasion::Sweep), Verdict::Keep);
        let nobody = Oldest { lowest: None, lowest_saved: None, ..OLDEST };
        assert_eq!(judge(nobody, Occasion::Sweep), Verdict::Keep, "somebody may come");
        let old = Oldest { newest_ms: 0, is_last: true, ..nobody };
        assert_eq!(super::judge(&old, Occasion::Sweep, 9000, &block), Verdict::Keep, "nobody loses anything");
    }

    #[test]
    fn the_cap_drops_only_where_it_was_asked_to() {
        let verdict = |when_full, occasion| judge(&OLDEST, occasion, 1000, &options(when_full));
        assert_eq!(verdict(WhenFull::Block, Occasion::Write(101)), Verdict::Keep);
        assert_eq!(verdict(WhenFull::DropOldest, Occasion::Write(100)), Verdict::Keep);
        assert_eq!(verdict(WhenFull::DropOldest, Occasion::Write(101)), Verdict::Drop(DropReason::Cap));
        let done = Oldest { lowest: Some(10), ..OLDEST };
        let drop = options(WhenFull::DropOldest);
        assert_eq!(judge(&done, Occasion::Write(101), 0, &drop), Verdict::SaveAndDelete);
        assert_eq!(judge(&done, Occasion::Write(100), 0, &drop), Verdict::Keep);
        assert_eq!(verdict(WhenFull::DropOldest, Occasion::DiskFull), Verdict::Drop(DropReason::DiskFull));
        let nobody = Oldest { lowest: None, lowest_saved: None, ..OLDEST };
        assert_eq!(judge(&nobody, Occasion::Write(101), 0, &drop), Verdict::Drop(DropReason::Cap));
    }

    #[test]
    fn age_drops_everywhere() {
        for (is_last, now_ms, expected) in [
            (false, 2000, Verdict::Keep),
            (false, 2001, Verdict::Drop(DropReason::Age)),
            (true, 2001, Verdict::Drop(DropReason::Age)),
            (false, 0, Verdict::Keep),
        ] {
            let oldest = Oldest { is_last, ..OLDEST };
            assert_eq!(judge(&oldest, Occasion::Sweep, now_ms, &options(WhenFull::Block)), expected);
        }
        let done = Oldest { lowest: Some(10), ..OLDEST };
        assert_eq!(judge(&done, Occasion::Sweep, 9000, &options(WhenFull::Block)), Verdict::Keep);
    }
}
