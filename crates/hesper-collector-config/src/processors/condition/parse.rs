//! From text to a condition: words and signs, then a parser that descends.

use super::{Comparison, Condition, Context, Field, Operand};
use crate::{Pattern, Value, processors::matching::severity_number};

/// Most levels of parentheses and `not`.
const MAX_DEPTH: usize = 32;

const ENUMS: [(&str, i64); 16] = [
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
    ("METRIC_DATA_TYPE_NONE", 0),
    ("METRIC_DATA_TYPE_GAUGE", 1),
    ("METRIC_DATA_TYPE_SUM", 2),
    ("METRIC_DATA_TYPE_HISTOGRAM", 3),
    ("METRIC_DATA_TYPE_EXPONENTIAL_HISTOGRAM", 4),
    ("METRIC_DATA_TYPE_SUMMARY", 5),
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(Value),
    Sign(&'static str),
}

/// Reads a condition.
///
/// # Errors
/// What is not understood.
pub(in crate::processors) fn parse(text: &str, context: Context) -> Result<Condition, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, context, depth: 0 };
    let condition = parser.any()?;
    match parser.tokens.first() {
        None => Ok(condition),
        Some(token) => Err(format!("{} is not expected", told(Some(token)))),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SIGNS: [&str; 13] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", ".", "-"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let used = if first == '"' {
            let (text, used) = quoted(rest).ok_or("a quote is never closed")?;
            tokens.push(Token::Text(text));
            used
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            tokens.push(Token::Number(number(&rest[..end]).ok_or("a number is not understood")?));
            end
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].into()));
            end
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("'{}' is not understood", first.escape_debug()))?;
            tokens.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[used..].trim_start();
    }
    Ok(tokens)
}

/// A text in quotes with its escapes undone, and how many bytes it took.
fn quoted(rest: &str) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((text, i + 1)),
            '\\' => match chars.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                // `\.` of an expression stays what it is.
                c if c == '"' || c == '\\' => text.push(c),
                c => text.extend(['\\', c]),
            },
            c => text.push(c),
        }
    }
    None
}

fn number(text: &str) -> Option<Value> {
    if text.contains('.') {
        return text.parse().ok().map(Value::Double);
    }
    text.parse().ok().map(Value::Int)
}

fn told(token: Option<&Token>) -> String {
    match token {
        None => "the end".into(),
        Some(Token::Word(word)) => format!("'{word}'"),
        Some(Token::Sign(sign)) => format!("'{sign}'"),
        Some(Token::Text(_)) => "a text".into(),
        Some(Token::Number(_)) => "a number".into(),
    }
}

struct Parser<'t> {
    tokens: &'t [Token],
    context: Context,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Option<&'t Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn takes(&mut self, token: &Token) -> bool {
        let there = self.tokens.first() == Some(token);
        if there {
            self.tokens = &self.tokens[1..];
        }
        there
    }

    fn takes_word(&mut self, word: &str) -> bool {
        self.takes(&Token::Word(word.into()))
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), String> {
        if self.takes(&Token::Sign(sign)) {
            return Ok(());
        }
        Err(format!("'{sign}' is expected, not {}", told(self.tokens.first())))
    }

    fn any(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.all()?];
        while self.takes_word("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.one()?];
        while self.takes_word("and") {
            parts.push(self.one()?);
        }
        Ok(one_or(parts, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("too many parentheses".into());
        }
        let condition = self.term();
        self.depth -= 1;
        condition
    }

    fn term(&mut self) -> Result<Condition, String> {
        if self.takes_word("not") {
            return Ok(Condition::Not(Box::new(self.one()?)));
        }
        if self.takes(&Token::Sign("(")) {
            let inner = self.any()?;
            return self.expect(")").map(|()| inner);
        }
        if self.takes_word("IsMatch") {
            return self.is_match();
        }
        let left = self.operand()?;
        let comparison = match self.tokens.first() {
            Some(Token::Sign("==")) => Comparison::Equal,
            Some(Token::Sign("!=")) => Comparison::NotEqual,
            Some(Token::Sign("<")) => Comparison::Less,
            Some(Token::Sign("<=")) => Comparison::LessOrEqual,
            Some(Token::Sign(">")) => Comparison::Greater,
            Some(Token::Sign(">=")) => Comparison::GreaterOrEqual,
            token => match left {
                Operand::Value(Value::Bool(always)) => return Ok(Condition::Always(always)),
                _ => return Err(format!("a comparison is expected, not {}", told(token))),
            },
        };
        self.next();
        Ok(Condition::Compare(left, comparison, self.operand()?))
    }

    fn is_match(&mut self) -> Result<Condition, String> {
        self.expect("(")?;
        let Some(Token::Word(word)) = self.next() else { return Err("IsMatch wants a field".into()) };
        let field = self.field(word)?;
        self.expect(",")?;
        let Some(Token::Text(pattern)) = self.next() else {
            return Err("IsMatch wants an expression in quotes".into());
        };
        let pattern = Pattern::new(pattern).map_err(|e| format!("no regular expression: {e}"))?;
        self.expect(")")?;
        Ok(Condition::IsMatch(field, pattern))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        Ok(match self.next() {
            Some(Token::Text(text)) => Operand::Value(Value::Text(text.clone())),
            Some(Token::Number(value)) => Operand::Value(value.clone()),
            Some(Token::Sign("-")) => match self.next() {
                Some(Token::Number(Value::Int(n))) => Operand::Value(Value::Int(-n)),
                Some(Token::Number(Value::Double(n))) => Operand::Value(Value::Double(-n)),
                token => return Err(format!("a number is expected, not {}", told(token))),
            },
            Some(Token::Word(word)) => match &**word {
                "true" => Operand::Value(Value::Bool(true)),
                "false" => Operand::Value(Value::Bool(false)),
                "nil" => Operand::Nil,
                word => match named(word) {
                    Some(n) => Operand::Value(Value::Int(n)),
                    None => Operand::Field(self.field(word)?),
                },
            },
            token => return Err(format!("a field or a value is expected, not {}", told(token))),
        })
    }

    /// A field whose first word was taken already.
    fn field(&mut self, first: &str) -> Result<Field, String> {
        let mut path = vec![first.to_owned()];
        while self.takes(&Token::Sign(".")) {
            let Some(Token::Word(word)) = self.next() else {
                return Err("a name is expected behind '.'".into());
            };
            path.push(word.clone());
        }
        let key = if self.takes(&Token::Sign("[")) {
            let Some(Token::Text(key)) = self.next() else {
                return Err("a text in quotes is expected behind '['".into());
            };
            self.expect("]")?;
            Some(key.clone())
        } else {
            None
        };
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let known = lookup(self.context, &words, key);
        known.ok_or_else(|| format!("the field {} is not known here", path.join(".")))
    }
}

fn one_or(mut parts: Vec<Condition>, many: impl Fn(Vec<Condition>) -> Condition) -> Condition {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}

/// The number of an enum's value.
fn named(word: &str) -> Option<i64> {
    let severity = word.strip_prefix("SEVERITY_NUMBER_").and_then(severity_number);
    let fixed = ENUMS.iter().find(|(name, _)| *name == word).map(|(_, n)| *n);
    severity.map(i64::from).or(fixed)
}

/// The field of a path; newer configurations name the context first (`span.name`).
fn lookup(context: Context, path: &[&str], key: Option<String>) -> Option<Field> {
    let own = match context {
        Context::Span => "span",
        Context::SpanEvent => "spanevent",
        Context::Metric => "metric",
        Context::DataPoint => "datapoint",
        Context::LogRecord => "log",
        Context::Resource => "resource",
    };
    let path = path.strip_prefix(&[own]).filter(|rest| !rest.is_empty()).unwrap_or(path);
    Some(match (path, key, context) {
        (["attributes"], Some(key), Context::Resource) | (["resource", "attributes"], Some(key), _) => {
            Field::ResourceAttribute(key)
        }
        (
            ["attributes"],
            Some(key),
            Context::Span | Context::SpanEvent | Context::DataPoint | Context::LogRecord,
        ) => Field::Attribute(key),
        (["instrumentation_scope" | "scope", "attributes"], Some(key), _) => Field::ScopeAttribute(key),
        (["instrumentation_scope" | "scope", "name"], None, _) => Field::ScopeName,
        (["instrumentation_scope" | "scope", "version"], None, _) => Field::ScopeVersion,
        (["name"], None, Context::Span | Context::SpanEvent | Context::Metric) => Field::Name,
        (["kind"], None, Context::Span) => Field::Kind,
        (["status", "code"], None, Context::Span) => Field::StatusCode,
        (["status", "message"], None, Context::Span) => Field::StatusMessage,
        (["body"], None, Context::LogRecord) => Field::Body,
        (["severity_number"], None, Context::LogRecord) => Field::SeverityNumber,
        (["severity_text"], None, Context::LogRecord) => Field::SeverityText,
        (["metric", "name"], None, Context::DataPoint) => Field::MetricName,
        (["type"], None, Context::Metric) | (["metric", "type"], None, Context::DataPoint) => {
            Field::MetricType
        }
        (["unit"], None, Context::Metric) | (["metric", "unit"], None, Context::DataPoint) => {
            Field::MetricUnit
        }
        _ => return None,
    })
}
