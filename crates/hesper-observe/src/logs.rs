//! Log lines on stderr.

use std::{io::IsTerminal, sync::OnceLock};
pub use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

/// The environment variable that filters log lines, in `tracing`'s grammar: `debug`, `warn,hesper_router=trace`.
pub const FILTER_VARIABLE: &str = "HESPER_LOG";

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// One line for people: time (RFC 3339, UTC), level, module, message, fields; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            other => Err(format!("no log format {other:?}: use text or json")),
        }
    }
}

/// What to log and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Raises the level from the base: 0 as is, 1 one level more (`-v`), and so on up to TRACE.
    pub verbosity: u8,
    /// The level without `-v` and without [`FILTER_VARIABLE`].
    pub base: Base,
    /// The form of a line.
    pub format: Format,
}

/// The level that a kind of command starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Base {
    /// Long-running roles tell what happens: INFO.
    #[default]
    Role,
    /// Commands speak by their output; only WARN and ERROR are logged.
    Command,
}

impl Options {
    fn level(self) -> LevelFilter {
        let ladder = [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];
        let start = match self.base {
            Base::Command => 0,
            Base::Role => 1,
        };
        ladder.get(start + usize::from(self.verbosity)).copied().unwrap_or(LevelFilter::TRACE)
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// [`FILTER_VARIABLE`] cannot be read.
    #[error("{FILTER_VARIABLE} is no log filter; examples: debug, warn,hesper_router=trace")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// It is not Unicode.
    #[error("{FILTER_VARIABLE} is not Unicode text")]
    NotUnicode,
    /// Logging was set up before in this process.
    #[error("logging is already set up")]
    Already(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What else listens to the process's spans and events.
pub type More = Box<dyn Layer<Registry> + Send + Sync>;

/// Sends the process's log lines to stderr, and spans and events to `more`. Call once, first thing.
///
/// # Errors
/// [`LogsError`]: an unreadable filter is an error, not a silent default.
pub fn init(options: Options, more: Option<More>) -> Result<(), LogsError> {
    // What the caller of the program said counts more than what a configuration says later.
    let mut chosen = options.verbosity > 0;
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => {
            chosen = true;
            EnvFilter::builder().parse(text)?
        }
        Ok(_) | Err(std::env::VarError::NotPresent) => {
            EnvFilter::builder().with_default_directive(options.level().into()).parse("")?
        }
        Err(std::env::VarError::NotUnicode(_)) => return Err(LogsError::NotUnicode),
    };
    let (filter, handle) = reload::Layer::new(filter);
    keep(chosen, move |filter| drop(handle.reload(filter)));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(more);
    // Spans are not for the log: without a layer that wants them they cost nothing.
    match options.format {
        Format::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            registry.with(lines.with_filter(filter.and(filter_fn(|metadata| metadata.is_event())))).try_init()
        }
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            registry.with(lines.with_filter(filter.and(filter_fn(|metadata| metadata.is_event())))).try_init()
        }
    }
    .map_err(|error| LogsError::Already(Box::new(error)))
}

/// Changes the filter of the lines.
type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;

static CHANGE: OnceLock<Change> = OnceLock::new();

fn keep(chosen: bool, change: impl Fn(EnvFilter) + Send + Sync + 'static) {
    if !chosen {
        // Set once: whoever initialises twice is told so.
        let _ = CHANGE.set(Box::new(change));
    }
}

/// Sets the level that a configuration names, unless the caller of the program chose one by `-v` or [`FILTER_VARIABLE`].
pub fn set_level(level: LevelFilter) {
    if let Some(change) = CHANGE.get() {
        change(EnvFilter::default().add_directive(level.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbosity_climbs_the_ladder_and_stops_at_the_top() {
        let level = |base, verbosity| Options { base, verbosity, ..Options::default() }.level();
        assert_eq!(level(Base::Command, 0), LevelFilter::WARN);
        assert_eq!(level(Base::Command, 2), LevelFilter::DEBUG);
        assert_eq!(level(Base::Role, 0), LevelFilter::INFO);
        assert_eq!(level(Base::Role, 200), LevelFilter::TRACE);
    }

    #[test]
    fn an_unknown_format_names_the_known_ones() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("xml".parse::<Format>(), Err("no log format \"xml\": use text or json".into()));
    }
}
