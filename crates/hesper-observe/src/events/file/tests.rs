use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Smaller than anybody may ask for.
const TINY: Retention = Retention { file_size: Size(100), files: 3 };

/// The numbers in each file, by the number in its name.
fn found(path: &Path) -> BTreeMap<usize, Vec<u64>> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        assert!(text.is_empty() || text.ends_with('\n'), "a line is cut: {text}");
        Some(text.lines().map(|line| line.trim_start_matches('x').parse().expect("a number")).collect())
    };
    let names = std::iter::once((0, path.to_owned())).chain((1..20).map(|n| (n, numbered(path, n))));
    names.filter_map(|(n, path)| Some((n, read(&path)?))).collect()
}

/// All numbers, the oldest file first.
fn in_order(path: &Path) -> Vec<u64> {
    found(path).into_values().rev().flatten().collect()
}

#[test]
fn files_are_private_and_the_oldest_goes() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("audit.jsonl");
    let mut keeper = Keeper::open(&path, TINY).expect("open");
    for n in 0..100u64 {
        keeper.append(&format!("{n:010}")).expect("written");
    }
    let found = found(&path);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    let kept: Vec<u64> = in_order(&path);
    assert_eq!(kept, (100 - kept.len() as u64..100).collect::<Vec<_>>());
    assert!(kept.len() > 18, "two whole files at least: {found:?}");
    for n in 0..3 {
        let name = if n == 0 { path.clone() } else { numbered(&path, n) };
        let metadata = fs::metadata(name).expect("metadata");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(metadata.len() <= TINY.file_size.0);
    }
}

#[test]
fn a_rotation_that_fails_loses_nothing_and_a_later_one_succeeds() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("audit.jsonl");
    let mut keeper = Keeper::open(&path, TINY).expect("open");
    // A directory that is not empty cannot be replaced by a file.
    let obstacle = numbered(&path, 1);
    fs::create_dir_all(obstacle.join("in the way")).expect("a directory");
    fs::create_dir_all(numbered(&path, 2).join("in the way")).expect("a directory");
    for n in 0..30u64 {
        keeper.append(&format!("{n:010}")).expect("written");
    }
    let text = fs::read_to_string(&path).expect("the file");
    assert_eq!(text.lines().count(), 30, "it goes on in the file that is there");
    fs::remove_dir_all(&obstacle).expect("removed");
    for n in 30..35u64 {
        keeper.append(&format!("{n:010}")).expect("written");
    }
    let rotated = fs::read_to_string(&obstacle).expect("rotated now");
    let all = rotated.lines().count() + fs::read_to_string(&path).expect("the file").lines().count();
    assert_eq!(all, 35);
}

#[test]
fn a_gap_of_a_rotation_that_was_cut_short_is_filled_first() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("audit.jsonl");
    fs::write(numbered(&path, 2), "1\n").expect("written");
    fs::write(&path, "2\n").expect("written");
    let mut keeper = Keeper::open(&path, Retention { file_size: Size(3), files: 3 }).expect("open");
    keeper.append("3").expect("written");
    assert_eq!(found(&path), BTreeMap::from([(0, vec![3]), (1, vec![2]), (2, vec![1])]));
    keeper.append("4").expect("written");
    assert_eq!(found(&path), BTreeMap::from([(0, vec![4]), (1, vec![3]), (2, vec![2])]));
}

#[test]
fn fewer_files_than_before_are_kept_from_the_next_rotation() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("audit.jsonl");
    for n in 1..6 {
        fs::write(numbered(&path, n), "0\n").expect("written");
    }
    fs::write(&path, "1\n").expect("written");
    let mut keeper = Keeper::open(&path, Retention { file_size: Size(3), files: 2 }).expect("open");
    keeper.append("2").expect("written");
    assert_eq!(found(&path), BTreeMap::from([(0, vec![2]), (1, vec![1])]));
}

#[test]
fn sizes_are_written_as_people_do() {
    for (text, bytes) in
        [("100MiB", 100 << 20), ("64KiB", 65_536), ("1GiB", 1 << 30), ("7B", 7), ("1025KiB", 1025 << 10)]
    {
        let size: Size = text.parse().expect(text);
        assert_eq!((size.0, size.to_string().as_str()), (bytes, text));
    }
    for bad in
        ["", "MiB", "100", "-1MiB", "1.5MiB", "1 MiB", "1MB", "99999999999999999999GiB", "9999999999999GiB"]
    {
        assert!(bad.parse::<Size>().is_err(), "{bad}");
    }
    assert!(Retention::default().check().is_ok());
    for (size, files, text) in [
        (1, 5, "audit files of 1B are too small"),
        (FILE_MIN, 1, "1 audit files"),
        (FILE_MIN, 1_001, "keep 2 to 1000"),
    ] {
        let error = Retention { file_size: Size(size), files }.check().expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Lines of any length, the file opened again now and then: what is there is always the newest part of what was written, in order, and
    /// more than a whole set of files without the one in use.
    #[test]
    fn what_is_kept_is_the_newest_part_without_a_gap(lengths in proptest::collection::vec((0usize..120, any::<bool>()), 1..80)) {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("audit.jsonl");
        let mut keeper = Keeper::open(&path, TINY).expect("open");
        for (n, (length, again)) in lengths.iter().enumerate() {
            if *again {
                keeper = Keeper::open(&path, TINY).expect("open");
            }
            keeper.append(&format!("{}{n}", "x".repeat(*length))).expect("written");
            let kept = in_order(&path);
            let first = n + 1 - kept.len();
            prop_assert_eq!(kept, (first as u64..=n as u64).collect::<Vec<_>>());
            prop_assert!(found(&path).len() <= TINY.files);
            prop_assert!(first == 0 || found(&path).len() == TINY.files, "nothing goes while there is room");
        }
    }
}
