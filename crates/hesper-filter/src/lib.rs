//! The filter grammar of `list` and `delete where`: OpenZiti's query language over JSON objects.
//!
//! ```text
//! query  = [expr] [sort by path [asc|desc], …] [skip N] [limit N | limit none]
//! expr   = expr or expr | expr and expr | not expr | (expr) | true | false | isEmpty(path) | path | test
//! test   = lhs (= != < <= > >=) value
//!        | lhs [not] in [value, …] | lhs [not] between value and value
//!        | lhs [not] contains value | lhs [not] icontains value
//! lhs    = path | anyOf(path) | allOf(path) | count(path) | count(from path where expr)
//! value  = "text" | number | datetime(RFC 3339) | true | false | null
//! ```
//! Keywords are case-insensitive. Dotted paths go into nested objects; over a list they mean each entry.
//!
//! [`Query::parse`] reads, [`Query::matches`] decides, [`Query::apply`] filters, sorts and pages. The parser is by hand: a
//! recursive descent of this size is shorter than its errors, which name the position and what was expected there.
//! Input is bounded ([`MAX_QUERY_LEN`], [`MAX_DEPTH`]), so that a query from outside costs no more than its length.

mod eval;
mod lexer;
mod order;
mod parser;
mod predicate;

pub use lexer::ParseError;
pub use order::Page;
pub use predicate::{Comparison, Literal, Operand, Predicate};

use serde_json::Value;

/// Longest query, bytes.
pub const MAX_QUERY_LEN: usize = 8 * 1024;
/// Deepest nesting of parentheses, `not` and sub-queries.
pub const MAX_DEPTH: usize = 64;
/// Items of a page when the query has no `limit`.
pub const DEFAULT_LIMIT: u64 = 10;
/// Largest page that a numeric `limit` gives; only `limit none` gives more.
pub const MAX_LIMIT: u64 = 500;

/// Direction of a sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    #[default]
    Asc,
    /// Largest first.
    Desc,
}

/// How many items a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At most so many; [`MAX_LIMIT`] at most.
    Count(u64),
    /// All.
    None,
}

/// A parsed query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Which items.
    pub predicate: Predicate,
    /// In which order: dotted path and direction, the first counts most.
    pub sort: Vec<(String, Direction)>,
    /// How many of them to leave out at the start.
    pub skip: Option<u64>,
    /// How many of them to give.
    pub limit: Option<Limit>,
}

impl Query {
    /// Reads a query. The empty query means everything, [`DEFAULT_LIMIT`] at a time.
    ///
    /// # Errors
    /// The position (in characters, from 1), what was expected there and what was found.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text)
    }

    /// Does the item satisfy the predicate?
    pub fn matches(&self, item: &Value) -> bool {
        eval::matches(&self.predicate, item)
    }

    /// The items that match, sorted and cut to the page, and how many match in all.
    ///
    /// The sort is stable; without `sort by` the order is the given one.
    pub fn apply(&self, items: Vec<Value>) -> Page {
        order::apply(self, items)
    }

    /// Every path into an item that the predicate and the order name.
    pub fn paths(&self) -> Vec<&str> {
        let mut paths = self.predicate.paths();
        paths.extend(self.sort.iter().map(|(path, _)| path.as_str()));
        paths
    }

    /// The size of a page; none = all.
    pub fn page_size(&self) -> Option<u64> {
        match self.limit {
            None => Some(DEFAULT_LIMIT),
            Some(Limit::Count(n)) => Some(n.min(MAX_LIMIT)),
            Some(Limit::None) => None,
        }
    }
}
