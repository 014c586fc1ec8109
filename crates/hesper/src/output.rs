//! What reaches standard output: lines, tables, CSV and JSON.
//!
//! Everything is written through [`line()`] or [`raw`], so that a closed pipe is an error that `main` takes for success and
//! never a panic.

use comfy_table::{ContentArrangement, Table};
use serde_json::Value;
use std::io::{self, Write};

/// The rounded box of OpenZiti's tables, in comfy-table's preset order.
const ROUNDED: &str = "││──├─┼┤│    ┬┴╭╮╰╯";

/// Writes one line to standard output.
///
/// # Errors
/// Whatever the write said; a closed pipe among them.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes text to standard output as it is.
///
/// # Errors
/// Whatever the write said; a closed pipe among them.
pub(crate) fn raw(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

/// Writes JSON, indented, to standard output.
///
/// # Errors
/// Whatever the write said; a closed pipe among them.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    line(format_args!("{value:#}"))
}

/// Rows under headers, ready to be shown as a box or as CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grid {
    /// The headers as OpenZiti writes them: `Terminator Strategy`.
    pub(crate) headers: Vec<&'static str>,
    /// As many cells per row as there are headers.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Grid {
    /// The rounded table, headers in capitals, without a final line end.
    pub(crate) fn boxed(&self) -> String {
        let mut table = Table::new();
        table
            .load_preset(ROUNDED)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(self.headers.iter().map(|h| h.to_uppercase()));
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        table.to_string()
    }

    /// Comma-separated values (RFC 4180 quoting, `\n` line ends), without a final line end.
    pub(crate) fn csv(&self) -> String {
        let headers = self.headers.iter().map(|h| csv_cell(h)).collect::<Vec<_>>().join(",");
        let rows = self.rows.iter().map(|row| row.iter().map(|c| csv_cell(c)).collect::<Vec<_>>().join(","));
        std::iter::once(headers).chain(rows).collect::<Vec<_>>().join("\n")
    }
}

/// Names come from others: a control character must not reach the terminal as one.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// `results: 1-10 of 42`, or `results: none`, from a list answer's `meta.pagination`.
pub(crate) fn paging(shown: usize, meta: &Value) -> String {
    let number = |field: &str| meta.pointer(&format!("/pagination/{field}")).and_then(Value::as_u64);
    let (offset, total) = (number("offset").unwrap_or(0), number("totalCount").unwrap_or(shown as u64));
    if shown == 0 {
        return "results: none".to_owned();
    }
    format!("results: {}-{} of {total}", offset + 1, offset + shown as u64)
}

/// Text of a JSON value as a table cell: strings bare, null and absent empty.
pub(crate) fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grid() -> Grid {
        Grid {
            headers: vec!["ID", "Name"],
            rows: vec![vec!["a1".into(), "über, \"x\"".into()], vec!["b2".into(), "bell\u{7}".into()]],
        }
    }

    #[test]
    fn a_box_is_rounded_and_its_headers_are_capitals() {
        let expected = "\
╭────┬───────────╮
│ ID ┆ NAME      │
├────┼───────────┤
│ a1 ┆ über, \"x\" │
│ b2 ┆ bell\u{fffd}     │
╰────┴───────────╯"
            .replace('┆', "│");
        assert_eq!(grid().boxed(), expected);
    }

    #[test]
    fn csv_quotes_what_needs_quotes() {
        assert_eq!(grid().csv(), "ID,Name\na1,\"über, \"\"x\"\"\"\nb2,bell\u{7}");
    }

    #[test]
    fn paging_counts_from_one() {
        let meta = json!({"pagination": {"offset": 10, "limit": 10, "totalCount": 42}});
        assert_eq!(paging(10, &meta), "results: 11-20 of 42");
        assert_eq!(paging(0, &meta), "results: none");
        assert_eq!(paging(3, &Value::Null), "results: 1-3 of 3");
    }
}
