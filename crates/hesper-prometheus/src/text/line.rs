//! Reads one line.

use super::{
    Exemplar, Format, Kind, Limits, Line, Sample,
    cursor::{Braces, Cursor, Fault, unescape},
};
use crate::labels::Labels;

pub(super) enum Read<'a> {
    Line(Line<'a>),
    /// A blank line or a comment.
    Nothing,
    Eof,
}

pub(super) fn read(line: &str, format: Format, limits: Limits) -> Result<Read<'_>, Fault> {
    let mut cursor = Cursor::new(line, format);
    cursor.gap();
    match cursor.peek() {
        None if format == Format::Text => Ok(Read::Nothing),
        None => Err(cursor.fault("OpenMetrics has no blank lines")),
        Some(b'#') => comment(cursor, format),
        Some(_) => sample(cursor, format, limits).map(|sample| Read::Line(Line::Sample(sample))),
    }
}

fn comment(mut cursor: Cursor<'_>, format: Format) -> Result<Read<'_>, Fault> {
    let open_metrics = format == Format::OpenMetrics;
    if open_metrics && cursor.rest() == "# EOF" {
        return Ok(Read::Eof);
    }
    cursor.eat("#");
    match format {
        Format::Text => cursor.gap(),
        Format::OpenMetrics => cursor.space()?,
    }
    let keyword = cursor.word();
    if !(matches!(keyword, "HELP" | "TYPE") || (open_metrics && keyword == "UNIT")) {
        return match open_metrics {
            true => Err(cursor.fault("OpenMetrics has no comments besides HELP, TYPE, UNIT and EOF")),
            false => Ok(Read::Nothing),
        };
    }
    cursor.space()?;
    let family = cursor.metric_name()?.filter(|name| !name.is_empty());
    let Some(family) = family else { return Err(cursor.fault("there is no name of a metric here")) };
    // The text may be missing altogether.
    if !cursor.is_at_end() {
        cursor.space()?;
    }
    let rest = cursor.rest();
    Ok(Read::Line(match keyword {
        "HELP" => Line::Help { family, text: unescape(rest, open_metrics) },
        "TYPE" => {
            let word = rest.trim_end_matches([' ', '\t']);
            let fault = || cursor.fault(format!("'{}' is no type of a metric", word.escape_debug()));
            Line::Type { family, kind: kind(word).ok_or_else(fault)? }
        }
        _ => Line::Unit { family, unit: rest },
    }))
}

fn kind(word: &str) -> Option<Kind> {
    Some(match word {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "gaugehistogram" => Kind::GaugeHistogram,
        "summary" => Kind::Summary,
        "info" => Kind::Info,
        "stateset" => Kind::StateSet,
        "unknown" | "untyped" => Kind::Unknown,
        _ => return None,
    })
}

fn sample<'a>(mut cursor: Cursor<'a>, format: Format, limits: Limits) -> Result<Sample<'a>, Fault> {
    let name = if cursor.peek() == Some(b'"') { None } else { cursor.metric_name()? };
    cursor.gap();
    let (name, labels) = match (name, cursor.peek()) {
        (Some(name), Some(b'{')) => match cursor.braces(limits)? {
            Braces { name: None, labels } => (name, labels),
            Braces { .. } => return Err(cursor.fault("the metric has two names")),
        },
        (Some(name), _) => (name, Labels::default()),
        (None, Some(b'{')) => match cursor.braces(limits)? {
            Braces { name: Some(name), labels } => (name, labels),
            Braces { name: None, .. } => return Err(cursor.fault("the metric has no name")),
        },
        (None, _) => return Err(cursor.fault("this is neither a comment nor the name of a metric")),
    };
    match format {
        Format::Text => cursor.gap(),
        Format::OpenMetrics => cursor.space()?,
    }
    let value = cursor.number("value")?;
    let (time_ms, exemplar) = match format {
        Format::Text => (text_time(&mut cursor)?, None),
        Format::OpenMetrics => open_metrics_tail(&mut cursor, limits)?,
    };
    if !cursor.is_at_end() {
        return Err(cursor.fault("there is something behind the sample"));
    }
    Ok(Sample { name, labels, value, time_ms, exemplar })
}

fn text_time(cursor: &mut Cursor<'_>) -> Result<Option<i64>, Fault> {
    cursor.gap();
    if cursor.is_at_end() {
        return Ok(None);
    }
    let time = cursor.time()?;
    cursor.gap();
    Ok(Some(time))
}

type Tail<'a> = (Option<i64>, Option<Exemplar<'a>>);

/// `[ TIMESTAMP][ # {LABELS} VALUE[ TIMESTAMP]]`
fn open_metrics_tail<'a>(cursor: &mut Cursor<'a>, limits: Limits) -> Result<Tail<'a>, Fault> {
    let mut time_ms = None;
    if !cursor.is_at_end() && !cursor.rest().starts_with(" #") {
        cursor.space()?;
        time_ms = Some(cursor.time()?);
    }
    if cursor.is_at_end() {
        return Ok((time_ms, None));
    }
    if !cursor.eat(" # ") {
        return Err(cursor.fault("there is something behind the sample"));
    }
    let Braces { name, labels } = cursor.braces(limits)?;
    if name.is_some() {
        return Err(cursor.fault("a label of the exemplar has no value"));
    }
    cursor.space()?;
    let value = cursor.number("value of the exemplar")?;
    let time = if cursor.is_at_end() {
        None
    } else {
        cursor.space()?;
        Some(cursor.time()?)
    };
    Ok((time_ms, Some(Exemplar { labels, value, time_ms: time })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_word() {
        use Kind as K;
        for of in [K::Unknown, K::Gauge, K::Counter, K::StateSet, K::Info, K::Histogram, K::Summary] {
            assert_eq!(kind(of.name()), Some(of));
        }
        assert_eq!(kind("untyped"), Some(Kind::Unknown));
        assert_eq!(kind("meter"), None);
    }
}
