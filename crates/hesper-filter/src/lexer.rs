//! Words, numbers, strings and signs, each with its position.

use std::fmt;

/// Why a query was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at position {position}: expected {expected}, found {found}")]
pub struct ParseError {
    /// Where, in characters from 1.
    pub position: usize,
    /// What would have been right.
    pub expected: String,
    /// What was there.
    pub found: String,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A keyword or a dotted path.
    Word(String),
    /// A string, unquoted and unescaped.
    Text(String),
    Number(f64),
    /// One of `( ) [ ] , = != < <= > >=`.
    Sign(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(w) => write!(f, "'{}'", shorten(w)),
            Self::Text(t) => write!(f, "the text {:?}", shorten(t)),
            Self::Number(n) => write!(f, "the number {n}"),
            Self::Sign(s) => write!(f, "'{s}'"),
            Self::End => f.write_str("the end"),
        }
    }
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The longer signs first.
const SIGNS: [&str; 11] = ["!=", "<=", ">=", "(", ")", "[", "]", ",", "=", "<", ">"];

/// Splits the text. Each token comes with the byte offset at which it starts.
pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if first == '"' {
            let (value, len) = string(text, at)?;
            tokens.push((at, Token::Text(value)));
            at += len;
        } else if let Some(sign) = SIGNS.into_iter().find(|s| rest.starts_with(s)) {
            tokens.push((at, Token::Sign(sign)));
            at += sign.len();
        } else {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(error(text, at, "a name, a value or a sign", format!("'{first}'")));
            }
            tokens.push((at, word_or_number(&rest[..end])));
            at += end;
        }
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

/// Letters, digits and what occurs in names, numbers and times.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | ':')
}

fn word_or_number(word: &str) -> Token {
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit());
    match word.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => Token::Number(number),
        _ => Token::Word(word.to_owned()),
    }
}

/// The string that starts at `at`, and its length with quotes.
fn string(text: &str, at: usize) -> Result<(String, usize), ParseError> {
    let mut value = String::new();
    let mut chars = text[at..].char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((value, i + 1)),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\' | '/'))) => value.push(escaped),
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((j, other)) => {
                    return Err(error(
                        text,
                        at + j,
                        r#"an escape: \" \\ \/ \n \t \r"#,
                        format!("'\\{other}'"),
                    ));
                }
                None => break,
            },
            _ => value.push(c),
        }
    }
    Err(error(text, text.len(), "a closing \"", "the end".into()))
}

/// An error at a byte offset.
pub(crate) fn error(text: &str, at: usize, expected: &str, found: String) -> ParseError {
    ParseError { position: text[..at].chars().count() + 1, expected: expected.to_owned(), found }
}
