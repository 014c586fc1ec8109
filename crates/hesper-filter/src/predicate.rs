//! The parsed predicate.

use time::OffsetDateTime;

/// Which items match.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// Always or never.
    Constant(bool),
    /// All of them, left to right.
    And(Vec<Predicate>),
    /// Any of them, left to right.
    Or(Vec<Predicate>),
    /// Not that.
    Not(Box<Predicate>),
    /// `isEmpty(path)`: absent, null, `""`, `[]` or `{}`.
    IsEmpty(String),
    /// A bare path: true when its value is `true`.
    Flag(String),
    /// A test of a value.
    Test {
        /// What is tested.
        left: Operand,
        /// How.
        comparison: Comparison,
    },
}

impl Predicate {
    /// Every path into an item. What a sub-query names is inside of the list that it counts, and not here.
    pub(crate) fn paths(&self) -> Vec<&str> {
        match self {
            Self::Constant(_) => Vec::new(),
            Self::And(all) | Self::Or(all) => all.iter().flat_map(Self::paths).collect(),
            Self::Not(inner) => inner.paths(),
            Self::IsEmpty(path) | Self::Flag(path) => vec![path],
            Self::Test { left, .. } => match left {
                Operand::Path(path)
                | Operand::AnyOf(path)
                | Operand::AllOf(path)
                | Operand::Count(path, _) => vec![path],
            },
        }
    }
}

/// What is tested.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// The value at a dotted path.
    Path(String),
    /// Any value of the list at the path.
    AnyOf(String),
    /// Every value of the list at the path; true for an empty list.
    AllOf(String),
    /// The length of the list at the path, or how many of its entries match.
    Count(String, Option<Box<Predicate>>),
}

/// How it is tested.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// `=`
    Equal(Literal),
    /// `!=`
    NotEqual(Literal),
    /// `<`
    Less(Literal),
    /// `<=`
    LessOrEqual(Literal),
    /// `>`
    Greater(Literal),
    /// `>=`
    GreaterOrEqual(Literal),
    /// `in [..]`
    In(Vec<Literal>),
    /// `not in [..]`
    NotIn(Vec<Literal>),
    /// `between A and B`: `A <= x < B`, as in OpenZiti.
    Between(Literal, Literal),
    /// `not between A and B`
    NotBetween(Literal, Literal),
    /// `contains`: the text occurs in it.
    Contains(String),
    /// `not contains`
    NotContains(String),
    /// `icontains`: the same without regard to case.
    IContains(String),
    /// `not icontains`
    NotIContains(String),
}

/// A value in a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `"text"`
    Text(String),
    /// A number.
    Number(f64),
    /// `datetime(…)`
    DateTime(OffsetDateTime),
    /// `true`, `false`
    Bool(bool),
    /// `null`
    Null,
}
