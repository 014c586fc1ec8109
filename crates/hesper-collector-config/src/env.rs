//! `${env:NAME}`, `${env:NAME:-default}`, `${NAME}` and `$$`.
//!
//! As in the Collector, a value that is nothing but one reference is read as YAML (a number, a list, nothing), and inside other
//! text a reference is text. Two things differ: a variable that is not set and has no default is a fault, not nothing; and what
//! a variable says is taken as it is, with no further `$` in it replaced.

use crate::{
    reader::Reader,
    remark::Topic,
    tree::{Body, Text, Tree},
};
use hesper_yaml::Place;

/// Most bytes that the environment may put into the files: far above any configuration, far below memory.
const MAX_EXPANDED: usize = 16 << 20;
/// Most references inside references.
const MAX_DEPTH: usize = 8;

/// Replaces every reference in a tree.
pub(crate) fn expand(tree: &mut Tree, reader: &Reader<'_>) {
    let mut expander = Expander { reader, bytes: 0 };
    expander.tree(tree);
}

struct Expander<'r> {
    reader: &'r Reader<'r>,
    /// What came from the environment so far.
    bytes: usize,
}

/// Fault told.
struct Refused;

impl Expander<'_> {
    fn tree(&mut self, tree: &mut Tree) {
        let Tree { place, body } = tree;
        match body {
            Body::List(items) => items.iter_mut().for_each(|item| self.tree(item)),
            Body::Map(entries) => entries.iter_mut().for_each(|entry| self.tree(&mut entry.value)),
            Body::Text(text) if text.text.contains('$') => match self.text(&text.text, text.plain, place) {
                Ok(expanded) => *text = expanded,
                Err(Refused) => text.broken = true,
            },
            Body::Text(_) => {}
        }
    }

    fn text(&mut self, source: &str, plain: bool, place: &Place) -> Result<Text, Refused> {
        if let Some(inside) = whole(source) {
            let text = self.value(inside, place, 0)?;
            let tree = structure(&text, place).map(Box::new);
            return Ok(Text { text, plain: true, env: true, tree, broken: false });
        }
        let (text, env) = self.expand(source, place, 0)?;
        // Text around a reference makes it text: `1${env:X}` is no number.
        Ok(Text { text, plain: plain && !env, env, tree: None, broken: false })
    }

    /// The text with its references replaced, and whether there were any.
    fn expand(&mut self, source: &str, place: &Place, depth: usize) -> Result<(String, bool), Refused> {
        let (mut text, mut env, mut rest) = (String::new(), false, source);
        while let Some(dollar) = rest.find('$') {
            text.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some(open) = rest.strip_prefix('{') {
                let Some(end) = closing(open) else {
                    return Err(self.fault(
                        place,
                        "a ${ is never closed",
                        "add the }, or write $$ for a $ that is text",
                    ));
                };
                text.push_str(&self.value(&open[..end], place, depth)?);
                env = true;
                rest = &open[end + 1..];
            } else {
                text.push('$');
                if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    let reason = "a name behind a bare $ is not replaced";
                    let next = "write ${env:NAME} for the variable, or $$ for a $ that is text";
                    self.reader.remark(Topic::Source, place, reason, next);
                }
            }
        }
        text.push_str(rest);
        Ok((text, env))
    }

    /// What the inside of a reference stands for.
    fn value(&mut self, inside: &str, place: &Place, depth: usize) -> Result<String, Refused> {
        if depth >= MAX_DEPTH {
            return Err(self.fault(
                place,
                "references inside references, too deep to follow",
                "write it out",
            ));
        }
        let (expanded, _) = self.expand(inside, place, depth + 1)?;
        let (name, default) = match expanded.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&*expanded, None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        if name.contains(':') {
            let reason = format!("${{{inside}}} asks a provider that is not known here");
            return Err(self.fault(place, reason, "only ${env:NAME} is; give further files with --config"));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
            let reason = format!("${{{inside}}} names no environment variable");
            return Err(self.fault(place, reason, "write ${env:NAME}, or $$ for a $ that is text"));
        }
        let Some(value) = self.reader.variable(name).or_else(|| default.map(str::to_owned)) else {
            let reason = format!("${{{inside}}}: this environment variable is not set");
            let next = "set it, or give a default: ${env:NAME:-DEFAULT}, ${env:NAME:-} for nothing";
            return Err(self.fault(place, reason, next));
        };
        self.bytes = self.bytes.saturating_add(value.len());
        if self.bytes > MAX_EXPANDED {
            let reason = format!("the environment makes this larger than {} MiB", MAX_EXPANDED >> 20);
            return Err(self.fault(place, reason, "make the variables smaller"));
        }
        Ok(value)
    }

    fn fault(&self, place: &Place, reason: impl Into<String>, next: &str) -> Refused {
        self.reader.fault(place, reason, next);
        Refused
    }
}

/// The inside of a text that is one reference and nothing else.
fn whole(source: &str) -> Option<&str> {
    let open = source.strip_prefix("${")?;
    (closing(open)? + 1 == open.len()).then(|| &open[..open.len() - 1])
}

/// Where the `}` is that closes what was opened before this text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' if text[..i].ends_with('$') => depth += 1,
            '}' if depth == 0 => return Some(i),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A value that is a list or a mapping as YAML.
fn structure(text: &str, place: &Place) -> Option<Tree> {
    if !text.contains(['[', '{', ':', '-']) {
        return None;
    }
    let (mut documents, flaws) = hesper_yaml::parse(text);
    let node = documents.pop().filter(|_| documents.is_empty() && flaws.is_empty())?;
    let here = |_| (place.line, place.column);
    let tree = Tree::new(&node, &place.file, &here);
    (!matches!(tree.body, Body::Text(_))).then_some(tree)
}
