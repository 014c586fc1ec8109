//! Recursive descent over the tokens.

use crate::{
    Direction, Limit, MAX_DEPTH, MAX_QUERY_LEN, Query,
    lexer::{self, ParseError, Token},
    predicate::{Comparison, Literal, Operand, Predicate},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(crate) fn parse(text: &str) -> Result<Query, ParseError> {
    if text.len() > MAX_QUERY_LEN {
        return Err(ParseError {
            position: 1,
            expected: format!("a query of at most {MAX_QUERY_LEN} bytes"),
            found: format!("{} bytes", text.len()),
        });
    }
    let mut parser = Parser { text, tokens: lexer::tokens(text)?, next: 0, depth: 0 };
    let query = parser.query()?;
    match parser.peek() {
        Token::End => Ok(query),
        _ => Err(parser.expected("and, or, sort by, skip, limit or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn query(&mut self) -> Result<Query, ParseError> {
        let starts_with_clause = ["sort", "skip", "limit"].iter().any(|k| self.is_clause(k));
        let predicate = if *self.peek() == Token::End || starts_with_clause {
            Predicate::Constant(true)
        } else {
            self.or()?
        };
        let mut query = Query { predicate, sort: Vec::new(), skip: None, limit: None };
        if self.take_word("sort") {
            self.need_word("by")?;
            query.sort = self.list(Self::sort_field)?;
        }
        if self.take_word("skip") {
            query.skip = Some(self.whole_number()?);
        }
        if self.take_word("limit") {
            query.limit =
                Some(if self.take_word("none") { Limit::None } else { Limit::Count(self.whole_number()?) });
        }
        Ok(query)
    }

    /// Is the next word this clause's, and not a field of that name?
    fn is_clause(&self, keyword: &str) -> bool {
        let following = self.tokens.get(self.next + 1).map(|(_, t)| t);
        self.is_word(keyword)
            && match following {
                Some(Token::Word(word)) => ["by", "none"].iter().any(|k| word.eq_ignore_ascii_case(k)),
                Some(Token::Number(_)) => true,
                _ => false,
            }
    }

    fn sort_field(&mut self) -> Result<(String, Direction), ParseError> {
        let path = self.path()?;
        let direction = if self.take_word("desc") {
            Direction::Desc
        } else {
            self.take_word("asc");
            Direction::Asc
        };
        Ok((path, direction))
    }

    fn or(&mut self) -> Result<Predicate, ParseError> {
        let mut any = vec![self.and()?];
        while self.take_word("or") {
            any.push(self.and()?);
        }
        Ok(one_or(any, Predicate::Or))
    }

    fn and(&mut self) -> Result<Predicate, ParseError> {
        let mut all = vec![self.unary()?];
        while self.take_word("and") {
            all.push(self.unary()?);
        }
        Ok(one_or(all, Predicate::And))
    }

    fn unary(&mut self) -> Result<Predicate, ParseError> {
        if self.take_word("not") {
            return self.deeper(|p| Ok(Predicate::Not(Box::new(p.unary()?))));
        }
        if self.take_sign("(") {
            return self.deeper(|p| {
                let inner = p.or()?;
                p.need_sign(")")?;
                Ok(inner)
            });
        }
        if self.is_function("isEmpty") {
            self.next += 1;
            return Ok(Predicate::IsEmpty(self.in_parentheses(Self::path)?));
        }
        for (word, value) in [("true", true), ("false", false)] {
            if self.take_word(word) {
                return Ok(Predicate::Constant(value));
            }
        }
        self.test()
    }

    fn test(&mut self) -> Result<Predicate, ParseError> {
        let left = self.operand()?;
        if let Some(comparison) = self.comparison()? {
            return Ok(Predicate::Test { left, comparison });
        }
        match left {
            Operand::Path(path) => Ok(Predicate::Flag(path)),
            Operand::AnyOf(_) | Operand::AllOf(_) | Operand::Count(..) => {
                Err(self.expected("= != < <= > >= in, between, contains or icontains"))
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, ParseError> {
        if self.is_function("anyOf") {
            self.next += 1;
            return Ok(Operand::AnyOf(self.in_parentheses(Self::path)?));
        }
        if self.is_function("allOf") {
            self.next += 1;
            return Ok(Operand::AllOf(self.in_parentheses(Self::path)?));
        }
        if self.is_function("count") {
            self.next += 1;
            return self.in_parentheses(Self::count);
        }
        Ok(Operand::Path(self.path()?))
    }

    fn count(&mut self) -> Result<Operand, ParseError> {
        let sub_query =
            self.is_word("from") && matches!(self.tokens.get(self.next + 1), Some((_, Token::Word(_))));
        if !sub_query {
            return Ok(Operand::Count(self.path()?, None));
        }
        self.next += 1;
        let path = self.path()?;
        self.need_word("where")?;
        let predicate = self.deeper(Self::or)?;
        Ok(Operand::Count(path, Some(Box::new(predicate))))
    }

    fn comparison(&mut self) -> Result<Option<Comparison>, ParseError> {
        for (sign, make) in SIGNED {
            if self.take_sign(sign) {
                return Ok(Some(make(self.literal()?)));
            }
        }
        let not = self.take_word("not");
        Ok(Some(if self.take_word("in") {
            self.need_sign("[")?;
            let values = self.list(Self::literal)?;
            self.need_sign("]")?;
            if not { Comparison::NotIn(values) } else { Comparison::In(values) }
        } else if self.take_word("between") {
            let low = self.literal()?;
            self.need_word("and")?;
            let high = self.literal()?;
            if not { Comparison::NotBetween(low, high) } else { Comparison::Between(low, high) }
        } else if self.take_word("contains") {
            let part = self.part()?;
            if not { Comparison::NotContains(part) } else { Comparison::Contains(part) }
        } else if self.take_word("icontains") {
            let part = self.part()?;
            if not { Comparison::NotIContains(part) } else { Comparison::IContains(part) }
        } else if not {
            return Err(self.expected("in, between, contains or icontains"));
        } else {
            return Ok(None);
        }))
    }

    /// What `contains` looks for: a text or a number.
    fn part(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Text(text) => {
                self.next += 1;
                Ok(text)
            }
            Token::Number(number) => {
                self.next += 1;
                Ok(number.to_string())
            }
            _ => Err(self.expected("a \"text\" or a number")),
        }
    }

    fn literal(&mut self) -> Result<Literal, ParseError> {
        let literal = match self.peek().clone() {
            Token::Text(text) => Literal::Text(text),
            Token::Number(number) => Literal::Number(number),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Literal::Bool(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Literal::Bool(false),
            Token::Word(word) if word.eq_ignore_ascii_case("null") => Literal::Null,
            Token::Word(word) if word.eq_ignore_ascii_case("datetime") => {
                self.next += 1;
                return self.in_parentheses(Self::datetime);
            }
            _ => return Err(self.expected("a value: \"text\", number, datetime(…), true, false or null")),
        };
        self.next += 1;
        Ok(literal)
    }

    fn datetime(&mut self) -> Result<Literal, ParseError> {
        let time = match self.peek() {
            Token::Word(text) => OffsetDateTime::parse(text, &Rfc3339).ok(),
            _ => None,
        };
        let time = time.ok_or_else(|| self.expected("a time such as 2026-01-31T12:00:00Z"))?;
        self.next += 1;
        Ok(Literal::DateTime(time))
    }

    fn path(&mut self) -> Result<String, ParseError> {
        const KEYWORDS: [&str; 13] = [
            "and",
            "or",
            "not",
            "in",
            "between",
            "contains",
            "icontains",
            "by",
            "null",
            "asc",
            "desc",
            "true",
            "false",
        ];
        match self.peek().clone() {
            Token::Word(word) if is_path(&word) && !KEYWORDS.iter().any(|k| word.eq_ignore_ascii_case(k)) => {
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.expected("a field such as name or tags.site")),
        }
    }

    fn whole_number(&mut self) -> Result<u64, ParseError> {
        match *self.peek() {
            Token::Number(n) if n.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&n) => {
                self.next += 1;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a whole number in range"
                )]
                Ok(n as u64)
            }
            _ => Err(self.expected("a whole number")),
        }
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = vec![item(self)?];
        while self.take_sign(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn in_parentheses<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        self.need_sign("(")?;
        let value = inner(self)?;
        self.need_sign(")")?;
        Ok(value)
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(self.expected(&format!("at most {MAX_DEPTH} levels of nesting")));
        }
        self.depth += 1;
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn is_word(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// The keyword followed by `(`: else it is a field of that name.
    fn is_function(&self, keyword: &str) -> bool {
        self.is_word(keyword) && matches!(self.tokens.get(self.next + 1), Some((_, Token::Sign("("))))
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let found = self.is_word(keyword);
        self.next += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.next += usize::from(found);
        found
    }

    fn need_word(&mut self, keyword: &str) -> Result<(), ParseError> {
        if self.take_word(keyword) { Ok(()) } else { Err(self.expected(&format!("'{keyword}'"))) }
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.expected(&format!("'{sign}'"))) }
    }

    fn expected(&self, what: &str) -> ParseError {
        let at = self.tokens.get(self.next).map_or(self.text.len(), |(at, _)| *at);
        lexer::error(self.text, at, what, self.peek().to_string())
    }
}

/// A comparison by sign, and what it becomes.
type Signed = (&'static str, fn(Literal) -> Comparison);

const SIGNED: [Signed; 6] = [
    ("=", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
];

/// Names separated by dots; after the first they may be any word (`tags.my-site`).
fn is_path(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && word.split('.').all(|part| !part.is_empty() && !part.contains(['+', ':']))
}

fn one_or(mut list: Vec<Predicate>, many: fn(Vec<Predicate>) -> Predicate) -> Predicate {
    if list.len() == 1 { list.remove(0) } else { many(list) }
}
