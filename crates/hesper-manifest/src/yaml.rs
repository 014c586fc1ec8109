//! YAML 1.2 text as a tree in which every node knows its line and column.
//!
//! The parser is `saphyr-parser`: it gives events with their positions, which serde's data model would lose.
//! Anchors and aliases work; depth and size are bounded, so that no file can exhaust memory by naming itself.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// Most levels of nesting: a config's data has a handful.
const MAX_DEPTH: usize = 64;
/// Most nodes of one file, aliases counted as what they stand for: far above a thousand entities of each kind.
const MAX_NODES: usize = 500_000;

/// Line and column, counted from one.
pub(crate) type At = (usize, usize);

/// A node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) data: Data,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// Text; `plain` when it was written without quotes and may mean a number, a yes or no, or nothing.
    Scalar { text: String, plain: bool },
    /// `[a, b]`
    Sequence(Vec<Node>),
    /// `{a: b}`; every key is text, none is there twice.
    Mapping(Vec<(Node, Node)>),
}

/// A fault of the text as YAML.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flaw {
    pub(crate) at: At,
    pub(crate) reason: String,
    pub(crate) next: String,
    /// The rest of the file could not be read.
    pub(crate) fatal: bool,
}

impl Node {
    /// The node as JSON, by YAML's core schema.
    pub(crate) fn json(&self) -> Value {
        match &self.data {
            Data::Scalar { text, plain: true } => plain(text),
            Data::Scalar { text, plain: false } => Value::String(text.clone()),
            Data::Sequence(items) => Value::Array(items.iter().map(Self::json).collect()),
            Data::Mapping(pairs) => {
                let fields = pairs.iter().map(|(key, value)| (key.text().to_owned(), value.json()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// The text of a scalar; empty for everything else.
    pub(crate) fn text(&self) -> &str {
        match &self.data {
            Data::Scalar { text, .. } => text,
            Data::Sequence(_) | Data::Mapping(_) => "",
        }
    }

    /// True for nothing, `~` and `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, plain: true } if plain(text).is_null())
    }

    /// The key and value of this name in a mapping.
    pub(crate) fn entry(&self, name: &str) -> Option<(&Node, &Node)> {
        let Data::Mapping(pairs) = &self.data else { return None };
        pairs.iter().find(|(key, _)| key.text() == name).map(|(key, value)| (key, value))
    }

    /// What it is, for messages.
    pub(crate) fn what(&self) -> String {
        match &self.data {
            Data::Sequence(_) => "a list".into(),
            Data::Mapping(_) => "a mapping".into(),
            Data::Scalar { .. } => match self.json() {
                Value::Null => "nothing".into(),
                value => value.to_string(),
            },
        }
    }
}

/// A plain scalar by YAML's core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let radix = |prefix: &str, radix| {
            digits.strip_prefix(prefix).filter(|_| digits == text).map(|d| u64::from_str_radix(d, radix))
        };
        if let Some(Ok(n)) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return n.into();
        }
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            let unsigned = text.strip_prefix('+').unwrap_or(text);
            let number = unsigned.parse::<u64>().map(Number::from);
            if let Ok(n) = number.or_else(|_| unsigned.parse::<i64>().map(Number::from)) {
                return n.into();
            }
        }
        let float = digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        if let Some(n) = text.parse::<f64>().ok().filter(|_| float).and_then(Number::from_f64) {
            return n.into();
        }
    }
    Value::String(text.into())
}

/// Every document of a text, and every flaw; the documents before a fatal flaw are there too. An empty document is left out.
pub(crate) fn parse(text: &str) -> (Vec<Node>, Vec<Flaw>) {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let outcome = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(scan_flaw(text, &error)),
        };
        if let Err(flaw) = outcome {
            builder.flaws.push(flaw);
            break;
        }
    }
    (builder.documents, builder.flaws)
}

/// A node that is not complete, with what was said about it.
struct Open {
    node: Node,
    anchor: usize,
    /// In a mapping: the key whose value comes next.
    key: Option<Node>,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    flaws: Vec<Flaw>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Flaw> {
        let at = (span.start.line(), span.start.col() + 1);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if let Some(tag) = tag.filter(|t| !(t.is_yaml_core_schema() && t.suffix == "str")) {
                    self.flaw(at, format!("the YAML tag {tag} is not known here"), "leave it out");
                }
                self.count(1, at)?;
                self.done(Node { at, data: Data::Scalar { text: text.into_owned(), plain } }, anchor);
            }
            Event::SequenceStart(anchor, _) => self.begin(at, Data::Sequence(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => self.begin(at, Data::Mapping(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, anchor, .. }) = self.open.pop() {
                    self.done(node, anchor);
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    self.flaw(at, "the alias names something that contains it", "write it out");
                    return Ok(());
                };
                self.count(size(&node), at)?;
                self.done(node, 0);
            }
            Event::DocumentEnd => self.anchors.clear(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
        Ok(())
    }

    fn begin(&mut self, at: At, data: Data, anchor: usize) -> Result<(), Flaw> {
        self.count(1, at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(fatal(at, format!("more than {MAX_DEPTH} levels of nesting"), "make it flatter"));
        }
        self.open.push(Open { node: Node { at, data }, anchor, key: None });
        Ok(())
    }

    fn count(&mut self, nodes: usize, at: At) -> Result<(), Flaw> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(fatal(
                at,
                format!("more than {MAX_NODES} values, aliases included"),
                "split the file",
            ));
        }
        Ok(())
    }

    fn flaw(&mut self, at: At, reason: impl Into<String>, next: &str) {
        self.flaws.push(Flaw { at, reason: reason.into(), next: next.into(), fatal: false });
    }

    /// Puts a complete node where it belongs.
    fn done(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            if !node.is_null() {
                self.documents.push(node);
            }
            return;
        };
        match (&mut parent.node.data, parent.key.take()) {
            (Data::Sequence(items), _) => items.push(node),
            (Data::Mapping(pairs), Some(key)) => {
                let twice = pairs.iter().find(|(k, _)| k.text() == key.text()).map(|(k, _)| k.at);
                if matches!(key.data, Data::Scalar { .. }) && twice.is_none() {
                    pairs.push((key, node));
                    return;
                }
                let reason = match twice {
                    Some((line, _)) => {
                        format!("'{}' is here twice, the first time in line {line}", key.text())
                    }
                    None => format!("{} cannot be a key", key.what()),
                };
                let next = if twice.is_some() { "keep one of them" } else { "a key is a word" };
                self.flaw(key.at, reason, next);
            }
            (Data::Mapping(_), None) => parent.key = Some(node),
            (Data::Scalar { .. }, _) => {}
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.data {
        Data::Scalar { .. } => 1,
        Data::Sequence(items) => 1 + items.iter().map(size).sum::<usize>(),
        Data::Mapping(pairs) => 1 + pairs.iter().map(|(k, v)| size(k) + size(v)).sum::<usize>(),
    }
}

fn fatal(at: At, reason: String, next: &str) -> Flaw {
    Flaw { at, reason, next: next.into(), fatal: true }
}

/// What the scanner stumbled over. Roles begin with characters that mean something else in YAML: say so where one is near.
fn scan_flaw(text: &str, error: &ScanError) -> Flaw {
    let marker = error.marker();
    let at = (marker.line().max(1), marker.col() + 1);
    let near = |line: usize| text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let bare = |line: &str, sign: char| {
        line.match_indices(sign)
            .any(|(i, _)| line[..i].ends_with([' ', '[', ',']) && !line[..i].trim_start().is_empty())
    };
    let lines = [near(at.0), near(at.0.saturating_sub(1))];
    let next = if lines.iter().any(|line| bare(line, '@')) {
        "a role that begins with @ must be in quotes: \"@name\""
    } else if lines.iter().any(|line| bare(line, '#')) {
        "a role that begins with # must be in quotes, or it is a comment: \"#attribute\""
    } else if lines.iter().any(|line| line.contains('\t')) {
        "indent with spaces, not with tabs"
    } else {
        "check the indentation, the quotes and the brackets here and in the line before"
    };
    fatal(at, format!("this is not YAML: {}", error.info()), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        let (documents, flaws) = parse(text);
        assert_eq!(flaws, [], "{text}");
        documents[0].json()
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let text = "[a, 1, -2, +3, 0x1f, 0o17, 1.5, 1e3, true, no, ~, '1', \"x\\ty\", 1.2.3, 18446744073709551615, .5, -, 1-2]";
        let expected = json!([
            "a",
            1,
            -2,
            3,
            31,
            15,
            1.5,
            1000.0,
            true,
            "no",
            null,
            "1",
            "x\ty",
            "1.2.3",
            18446744073709551615u64,
            0.5,
            "-",
            "1-2"
        ]);
        assert_eq!(one(&text.replace("-, ", "'-', ")), expected);
    }

    #[test]
    fn places_and_documents_are_kept_and_empty_ones_are_not() {
        let (documents, flaws) = parse("---\n---\na:\n  - b\n---\n# nothing\n---\nc: é\n");
        assert_eq!(flaws, []);
        assert_eq!(
            documents.iter().map(Node::json).collect::<Vec<_>>(),
            [json!({"a": ["b"]}), json!({"c": "é"})]
        );
        let (key, value) = documents[0].entry("a").expect("a");
        assert_eq!((key.at, value.at), ((3, 1), (4, 3)));
    }

    #[test]
    fn aliases_stand_for_what_they_name_and_cannot_explode() {
        assert_eq!(one("a: &x [1]\nb: *x\n"), json!({"a": [1], "b": [1]}));
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let parts = vec![format!("*a{}", i - 1); 10].join(",");
            bomb += &format!("a{i}: &a{i} [{parts}]\n");
        }
        let (_, flaws) = parse(&bomb);
        assert!(flaws[0].fatal && flaws[0].reason.contains("aliases included"), "{flaws:?}");
        let (_, flaws) = parse(&"[".repeat(100));
        assert!(flaws[0].fatal && flaws[0].reason.contains("levels"), "{flaws:?}");
    }

    #[test]
    fn flaws_have_a_place_and_say_what_to_do() {
        for (text, at, reason, next) in [
            ("a: 1\nb: 2\na: 3\n", (3, 1), "'a' is here twice, the first time in line 1", "keep one"),
            ("a: @x\n", (1, 4), "not YAML", "\"@name\""),
            ("a: [#x]\nb: c\n", (1, 5), "not YAML", "\"#attribute\""),
            ("a:\n\t- b\n", (2, 1), "not YAML", "not with tabs"),
            ("a: !thing b\n", (1, 4), "tag", "leave it out"),
            ("a: 'b\n", (1, 4), "not YAML", "quotes"),
        ] {
            let (_, flaws) = parse(text);
            let flaw = flaws.first().unwrap_or_else(|| panic!("{text:?} is fine"));
            assert!(flaw.reason.contains(reason) && flaw.next.contains(next), "{text:?}: {flaw:?}");
            assert_eq!(flaw.at.0, at.0, "{text:?}: {flaw:?}");
        }
    }
}
