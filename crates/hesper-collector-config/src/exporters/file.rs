//! `file`: what passes is written to files. `rotation.max_total_megabytes` is ours.

use crate::section::Section;
use std::time::Duration;

/// Where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The file; with `group_by` it has one `*`.
    pub path: String,
    /// How it is written.
    pub format: FileFormat,
    /// Compress each batch with zstd?
    pub zstd: bool,
    /// Begin a new file now and then.
    pub rotation: Option<Rotation>,
    /// Write behind what is there already? With rotation and `group_by` that is so anyway.
    pub append: bool,
    /// How often what is written to the file is brought to the disk (1 s).
    pub flush_interval: Duration,
    /// A file for each value of an attribute.
    pub group_by: Option<GroupBy>,
    /// Make the directory when it is not there?
    pub create_directory: bool,
}

/// How a file is written. Protobuf, and everything compressed, has the length of each batch before it: 4 bytes, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// One batch of OTLP/JSON per line.
    Json,
    /// Protobuf.
    Proto,
}

/// When a new file is begun and how many stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A new file from this size on, in bytes (100 MiB).
    pub max_size: u64,
    /// Older files are deleted; None: none is too old.
    pub max_age: Option<Duration>,
    /// Most older files; zero: any number.
    pub max_backups: u64,
    /// Local time in the names of older files? They are in UTC all the same.
    pub localtime: bool,
    /// Most bytes of all files together; None: what the other limits allow.
    pub max_total_size: Option<u64>,
}

/// `group_by`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// The attribute of the resource (`fileexporter.path_segment`).
    pub resource_attribute: String,
    /// Most files open at once (100).
    pub max_open_files: u64,
}

const MB: u64 = 1 << 20;

pub(crate) fn read(s: &Section<'_>) -> File {
    s.unsupported("encoding", "write format: json or proto");
    s.idle("directory_permissions", "directories are made for this user only");
    let rotation = s.section("rotation", rotation);
    let group_by = s.section("group_by", group_by).flatten();
    let file = File {
        path: s.needed("path", "write the file"),
        format: s.one_of(
            "format",
            &[("json", FileFormat::Json), ("proto", FileFormat::Proto)],
            FileFormat::Json,
        ),
        zstd: s.one_of("compression", &[("zstd", true), ("none", false), ("", false)], false),
        append: s.flag("append", false),
        flush_interval: s.duration("flush_interval", Duration::from_secs(1)),
        create_directory: s.flag("create_directory", false),
        rotation,
        group_by,
    };
    if file.append && (file.rotation.is_some() || file.zstd) {
        s.refuse("append", "goes neither with rotation nor with compression", "leave one of them out");
    }
    if file.group_by.is_some() && file.path.matches('*').count() != 1 {
        s.refuse("path", "group_by needs exactly one * in it", "write it as /directory/*.json");
    }
    if file.group_by.is_some() && file.rotation.is_some() {
        s.refuse("rotation", "does not go with group_by", "leave one of them out");
    }
    file
}

fn rotation(s: &Section<'_>) -> Rotation {
    let bytes = |megabytes: u64| megabytes.saturating_mul(MB);
    let days = s.count_in("max_days", 0, 0..=36_500);
    let total = s.count("max_total_megabytes", 0);
    let rotation = Rotation {
        max_size: bytes(s.count_in("max_megabytes", 100, 1..=u64::MAX)),
        max_age: Some(days).filter(|days| *days > 0).map(|days| Duration::from_secs(days * 86_400)),
        max_backups: s.count("max_backups", 100),
        localtime: localtime(s),
        max_total_size: Some(total).filter(|total| *total > 0).map(bytes),
    };
    if rotation.max_total_size.is_some_and(|total| total < rotation.max_size) {
        s.refuse("max_total_megabytes", "smaller than one file", "make it at least max_megabytes");
    }
    rotation
}

fn localtime(s: &Section<'_>) -> bool {
    let local = s.flag("localtime", false);
    if local {
        s.idle("localtime", "names of older files are in UTC");
    }
    local
}

fn group_by(s: &Section<'_>) -> Option<GroupBy> {
    let group = GroupBy {
        resource_attribute: s.text_or("resource_attribute", "fileexporter.path_segment"),
        max_open_files: s.count_in("max_open_files", 100, 1..=u64::MAX),
    };
    s.flag("enabled", false).then_some(group)
}
