//! `debug`, and its older form `logging`: what passes is told in the log.

use crate::{remark::Topic, section::Section};

/// How much is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debug {
    /// How much of each batch.
    pub verbosity: Verbosity,
    /// So many messages of each second are told …
    pub sampling_initial: u64,
    /// … and then every so-manieth.
    pub sampling_thereafter: u64,
    /// Into our own log? Otherwise to `output_paths`.
    pub use_internal_logger: bool,
    /// Files, or `stdout` and `stderr`.
    pub output_paths: Vec<String>,
}

/// How much of each batch is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing (`logging` with a level above info).
    None,
    /// How many spans, points or records.
    Basic,
    /// One line for each of them.
    Normal,
    /// Everything.
    Detailed,
}

const VERBOSITIES: [(&str, Verbosity); 3] =
    [("basic", Verbosity::Basic), ("normal", Verbosity::Normal), ("detailed", Verbosity::Detailed)];

pub(crate) fn read(s: &Section<'_>) -> Debug {
    // It has a queue in newer Collectors; here it tells at once.
    for key in ["sending_queue", "retry_on_failure"] {
        s.section(key, Section::anything);
        s.idle(key, "it tells at once");
    }
    Debug {
        verbosity: s.one_of("verbosity", &VERBOSITIES, Verbosity::Basic),
        sampling_initial: s.count("sampling_initial", 2),
        sampling_thereafter: s.count("sampling_thereafter", 1),
        use_internal_logger: s.flag("use_internal_logger", true),
        output_paths: match s.is_set("output_paths") {
            true => s.texts("output_paths"),
            false => vec!["stdout".into()],
        },
    }
}

/// The older form: `loglevel: info` told counts, `debug` everything, others nothing.
pub(crate) fn logging(s: &Section<'_>) -> Debug {
    let levels = [
        ("debug", Verbosity::Detailed),
        ("info", Verbosity::Basic),
        ("warn", Verbosity::None),
        ("error", Verbosity::None),
    ];
    let level = s.choice("loglevel", &levels);
    if level.is_some() {
        s.remark(
            Topic::Renamed,
            "loglevel",
            "loglevel is called verbosity now",
            "write verbosity: basic or detailed",
        );
    }
    if level.is_some() && s.is_set("verbosity") {
        s.refuse("loglevel", "given besides verbosity", "keep verbosity");
    }
    Debug {
        verbosity: s.one_of("verbosity", &VERBOSITIES, level.unwrap_or(Verbosity::Basic)),
        sampling_initial: s.count("sampling_initial", 2),
        sampling_thereafter: s.count("sampling_thereafter", 500),
        use_internal_logger: true,
        output_paths: vec!["stdout".into()],
    }
}
