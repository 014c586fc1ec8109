//! Walks over a line.

use super::{Format, Limits};
use crate::labels::{Labels, NAME};
use std::borrow::Cow;

/// What is wrong at a byte of a line (from 0).
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: String,
}

pub(super) struct Cursor<'a> {
    line: &'a str,
    at: usize,
    format: Format,
}

/// What stands in braces. A name in quotes is the metric's.
pub(super) struct Braces<'a> {
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) labels: Labels<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(line: &'a str, format: Format) -> Self {
        Self { line, at: 0, format }
    }

    pub(super) fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault { at: self.at, reason: reason.into() }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.line.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        self.at += if there { text.len() } else { 0 };
        there
    }

    fn while_bytes(&mut self, fits: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.bytes().position(|byte| !fits(byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Spaces and tabs, where there may be some: nowhere in OpenMetrics.
    pub(super) fn gap(&mut self) {
        if self.format == Format::Text {
            self.while_bytes(|byte| matches!(byte, b' ' | b'\t'));
        }
    }

    /// What must divide two things: one space in OpenMetrics, any number of spaces and tabs in Prometheus' format.
    pub(super) fn space(&mut self) -> Result<(), Fault> {
        let before = self.at;
        match self.format {
            Format::OpenMetrics => drop(self.eat(" ")),
            Format::Text => self.gap(),
        }
        if self.at == before { Err(self.fault("there is no space here")) } else { Ok(()) }
    }

    /// What stands before the next space.
    pub(super) fn word(&mut self) -> &'a str {
        self.while_bytes(|byte| !matches!(byte, b' ' | b'\t'))
    }

    /// A name without quotes; empty when there is none. Names of metrics may have colons.
    fn bare_name(&mut self, colon: bool) -> &'a str {
        let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (colon && byte == b':');
        match self.peek() {
            Some(byte) if begins(byte) => self.while_bytes(|byte| begins(byte) || byte.is_ascii_digit()),
            _ => "",
        }
    }

    /// The name of a metric, in quotes or not; `None` when there is none.
    pub(super) fn metric_name(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        if self.peek() == Some(b'"') {
            return self.quoted().map(Some);
        }
        let name = self.bare_name(true);
        Ok(Some(Cow::Borrowed(name)).filter(|name| !name.is_empty()))
    }

    /// A text in quotes: `\\`, `\"` and `\n` are undone.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Fault> {
        let begin = self.at + 1;
        let bytes = self.line.as_bytes();
        let mut at = begin;
        loop {
            match bytes.get(at) {
                Some(b'"') => break,
                // The escaped byte is skipped, so that a quote there does not end the text.
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => return Err(self.fault("the quotes do not end on this line")),
            }
        }
        let text = &self.line[begin..at];
        self.at = at + 1;
        Ok(unescape(text, true))
    }

    /// What stands between `{` and `}`, both included.
    pub(super) fn braces(&mut self, limits: Limits) -> Result<Braces<'a>, Fault> {
        let begin = self.at;
        if !self.eat("{") {
            return Err(self.fault("there is no { here"));
        }
        let (mut name, mut pairs) = (None, Vec::new());
        loop {
            self.gap();
            if self.eat("}") {
                break;
            }
            match self.item()? {
                (key, Some(value)) => pairs.push((key, value)),
                (metric, None) if name.is_none() => name = Some(metric),
                _ => return Err(self.fault("the metric has two names")),
            }
            if pairs.len() > limits.labels {
                return Err(self.fault(format!("there are more than {} labels", limits.labels)));
            }
            self.gap();
            if !self.eat(",") && self.peek() != Some(b'}') {
                return Err(self.fault("there is neither , nor } behind the label"));
            }
        }
        let twice =
            |name: Cow<'_, str>| Fault { at: begin, reason: format!("the label {name} is there twice") };
        let labels = Labels::parsed(pairs).map_err(twice)?;
        if labels.has(NAME) {
            let reason = format!("the label {NAME} is there: the name stands before the braces");
            return Err(Fault { at: begin, reason });
        }
        Ok(Braces { name, labels })
    }

    /// `name="value"`, or the quoted name of the metric.
    fn item(&mut self) -> Result<(Cow<'a, str>, Option<Cow<'a, str>>), Fault> {
        let is_quoted = self.peek() == Some(b'"');
        let name = if is_quoted { self.quoted()? } else { Cow::Borrowed(self.bare_name(false)) };
        if name.is_empty() {
            return Err(self.fault("there is no name of a label here"));
        }
        self.gap();
        if !self.eat("=") {
            return match is_quoted {
                true => Ok((name, None)),
                false => Err(self.fault(format!("there is no = behind the label {name}"))),
            };
        }
        self.gap();
        if self.peek() != Some(b'"') {
            return Err(self.fault(format!("the value of the label {name} is not in quotes")));
        }
        Ok((name, Some(self.quoted()?)))
    }

    /// A number.
    pub(super) fn number(&mut self, what: &str) -> Result<f64, Fault> {
        let begin = self.at;
        let word = self.word();
        // NaN is the usual one, whatever its sign, so that no target can send the mark of staleness.
        match word.parse::<f64>() {
            Ok(number) if number.is_nan() => Ok(f64::NAN),
            Ok(number) => Ok(number),
            Err(_) if word.is_empty() => Err(Fault { at: begin, reason: format!("there is no {what} here") }),
            Err(_) => Err(Fault { at: begin, reason: format!("the {what} {} is no number", shown(word)) }),
        }
    }

    /// A time in ms since 1970: OpenMetrics writes seconds with a fraction, Prometheus whole milliseconds.
    pub(super) fn time(&mut self) -> Result<i64, Fault> {
        let begin = self.at;
        let bad = |word: &str| Fault { at: begin, reason: format!("{} is no timestamp", shown(word)) };
        match self.format {
            Format::Text => {
                let word = self.word();
                word.parse().map_err(|_| bad(word))
            }
            Format::OpenMetrics => {
                let seconds = self.number("timestamp")?;
                let ms = (seconds * 1000.0).round();
                // Beyond 2^53 ms a float does not know the millisecond any more, and 285 000 years are enough.
                if ms.abs() < 9e15 { Ok(ms as i64) } else { Err(bad(&seconds.to_string())) }
            }
        }
    }
}

/// A piece of the target's text for an error: short.
fn shown(text: &str) -> String {
    const LEN: usize = 40;
    let short: String = text.chars().take(LEN).collect();
    format!("'{}{}'", short.escape_debug(), if short.len() < text.len() { "…" } else { "" })
}

/// Undoes `\\` and `\n`, and `\"` if wanted. Any other backslash is one.
pub(super) fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.clone().next() } else { None };
        let undone = match escaped {
            Some('\\') => Some('\\'),
            Some('n') => Some('\n'),
            Some('"') if quotes => Some('"'),
            _ => None,
        };
        if undone.is_some() {
            chars.next();
        }
        plain.push(undone.unwrap_or(c));
    }
    Cow::Owned(plain)
}
