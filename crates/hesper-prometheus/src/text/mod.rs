//! The text formats: Prometheus' 0.0.4 and OpenMetrics 1.0, line by line.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://prometheus.io/docs/specs/om/open_metrics_spec/>. Names in quotes
//! may be any UTF-8 in both.

mod cursor;
mod format;
mod line;

pub use format::{Format, accept};

use crate::labels::Labels;
use std::borrow::Cow;

/// What a text may have at most, so that a target cannot fill the memory with one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a line. Labels with whole statements of SQL occur; a quarter of a mebibyte holds every one that was ever meant.
    pub line: usize,
    /// Labels of a sample or an exemplar.
    pub labels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 256 << 10, labels: 1024 }
    }
}

/// What a family of metrics is. Text 0.0.4 says `untyped` for [`Unknown`](Self::Unknown).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of OpenMetrics")]
pub enum Kind {
    #[default]
    Unknown,
    Gauge,
    Counter,
    StateSet,
    Info,
    Histogram,
    GaugeHistogram,
    Summary,
}

impl Kind {
    /// As OpenMetrics writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::StateSet => "stateset",
            Self::Info => "info",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
        }
    }
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a> {
    /// `# TYPE`
    Type {
        /// The family.
        family: Cow<'a, str>,
        /// What it is.
        kind: Kind,
    },
    /// `# HELP`
    Help {
        /// The family.
        family: Cow<'a, str>,
        /// For people.
        text: Cow<'a, str>,
    },
    /// `# UNIT`
    Unit {
        /// The family.
        family: Cow<'a, str>,
        /// Such as `seconds`.
        unit: &'a str,
    },
    /// A number.
    Sample(Sample<'a>),
}

/// A number with its name and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The name as it is written, with its suffix.
    pub name: Cow<'a, str>,
    /// The labels, without the name. Empty values are kept.
    pub labels: Labels<'a>,
    /// The number.
    pub value: f64,
    /// When it was measured, in ms since 1970, if the target says so.
    pub time_ms: Option<i64>,
    /// One measurement that is in it.
    pub exemplar: Option<Exemplar<'a>>,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// Such as `trace_id`.
    pub labels: Labels<'a>,
    /// What was measured.
    pub value: f64,
    /// When, in ms since 1970.
    pub time_ms: Option<i64>,
}

/// The text is not what its format says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, byte {column}: {reason}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The byte in it, from 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

/// Reads a text. After an error there is nothing more.
#[derive(Debug)]
pub struct Parser<'a> {
    rest: &'a str,
    line: usize,
    format: Format,
    limits: Limits,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// After `# EOF`.
    Ended,
    /// Nothing more is told.
    Done,
}

impl<'a> Parser<'a> {
    /// Begins.
    pub const fn new(text: &'a str, format: Format, limits: Limits) -> Self {
        Self { rest: text, line: 0, format, limits, state: State::Reading }
    }

    /// Begins with bytes as they came.
    ///
    /// # Errors
    /// They are not UTF-8.
    pub fn of_bytes(bytes: &'a [u8], format: Format, limits: Limits) -> Result<Self, ParseError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(text, format, limits)),
            Err(error) => {
                let good = &bytes[..error.valid_up_to()];
                let begin = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                let column = good.len() - begin + 1;
                Err(ParseError { line, column, reason: "this is not UTF-8".into() })
            }
        }
    }

    /// The next line without its end. The text formats end every line; a last one without end is read all the same.
    fn line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some(line)
    }

    fn error(&mut self, column: usize, reason: impl Into<String>) -> ParseError {
        self.state = State::Done;
        ParseError { line: self.line.max(1), column, reason: reason.into() }
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Line<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.state == State::Done {
                return None;
            }
            let Some(line) = self.line() else {
                if self.format == Format::OpenMetrics && self.state != State::Ended {
                    return Some(Err(self.error(1, "the text ends without # EOF: it was cut short")));
                }
                self.state = State::Done;
                return None;
            };
            if self.state == State::Ended {
                return Some(Err(self.error(1, "there is something behind # EOF")));
            }
            if line.len() > self.limits.line {
                let limit = self.limits.line;
                return Some(Err(self.error(limit, format!("the line has more than {limit} bytes"))));
            }
            match line::read(line, self.format, self.limits) {
                Ok(line::Read::Line(line)) => return Some(Ok(line)),
                Ok(line::Read::Nothing) => {}
                Ok(line::Read::Eof) => self.state = State::Ended,
                Err(error) => return Some(Err(self.error(error.at + 1, error.reason))),
            }
        }
    }
}
