//! From text to trees.
//!
//! The parser is `saphyr-parser`: it gives events with their positions, which serde's data model would lose.

use crate::tree::{At, Data, Node, Style};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::collections::BTreeMap;

/// Most levels of nesting: a config's data has a handful.
pub const MAX_DEPTH: usize = 64;
/// Most nodes of one file, aliases counted as what they stand for: far above a thousand entities of each kind.
pub const MAX_NODES: usize = 500_000;

/// A fault of the text as YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct Flaw {
    /// Where.
    pub at: At,
    /// What is wrong there.
    pub reason: String,
    /// What to do about it.
    pub next: String,
    /// `@` or `#`, when a word that begins with it stands near and should probably be in quotes.
    pub sign: Option<char>,
    /// The rest of the file could not be read.
    pub fatal: bool,
}

/// Every document of a text, and every flaw; the documents before a fatal flaw are there too. An empty document is left out.
pub fn parse(text: &str) -> (Vec<Node>, Vec<Flaw>) {
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
    /// In a mapping: the line of every key that was there.
    lines: BTreeMap<String, usize>,
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
                let style = match style {
                    ScalarStyle::Plain if tag.is_none() => Style::Plain,
                    ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                        Style::Quoted
                    }
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                if let Some(tag) = tag.filter(|t| !(t.is_yaml_core_schema() && t.suffix == "str")) {
                    self.flaw(at, format!("the YAML tag {tag} is not known here"), "leave it out");
                }
                self.count(1, at)?;
                self.done(Node { at, data: Data::Scalar { text: text.into_owned(), style } }, anchor);
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
        self.open.push(Open { node: Node { at, data }, anchor, key: None, lines: BTreeMap::new() });
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
        self.flaws.push(Flaw { at, reason: reason.into(), next: next.into(), sign: None, fatal: false });
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
                let twice = parent.lines.get(key.text()).copied();
                if matches!(key.data, Data::Scalar { .. }) && twice.is_none() {
                    parent.lines.insert(key.text().to_owned(), key.at.0);
                    pairs.push((key, node));
                    return;
                }
                let reason = match twice {
                    Some(line) => {
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
    Flaw { at, reason, next: next.into(), sign: None, fatal: true }
}

/// What the scanner stumbled over. Some characters mean something else at the beginning of a word: say so where one is near.
fn scan_flaw(text: &str, error: &ScanError) -> Flaw {
    let marker = error.marker();
    let at = (marker.line().max(1), marker.col() + 1);
    let near = |line: usize| text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let bare = |line: &str, sign: char| {
        line.match_indices(sign)
            .any(|(i, _)| line[..i].ends_with([' ', '[', ',']) && !line[..i].trim_start().is_empty())
    };
    let lines = [near(at.0), near(at.0.saturating_sub(1))];
    let sign = ['@', '#'].into_iter().find(|sign| lines.iter().any(|line| bare(line, *sign)));
    let next = match sign {
        Some('@') => "what begins with @ must be in quotes",
        Some(_) => "what begins with # must be in quotes, or it is a comment",
        None if lines.iter().any(|line| line.contains('\t')) => "indent with spaces, not with tabs",
        None => "check the indentation, the quotes and the brackets here and in the line before",
    };
    Flaw { sign, ..fatal(at, format!("this is not YAML: {}", error.info()), next) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

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
            ("a: @x\n", (1, 4), "not YAML", "in quotes"),
            ("a: [#x]\nb: c\n", (1, 5), "not YAML", "in quotes"),
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

    #[test]
    fn a_scalar_keeps_its_text_and_its_style() {
        let text = "a: 0123\nb: '0123'\nc: !!str 1\nd: |\n  x\n   y\ne: >-\n  x\n  y\n";
        let (documents, flaws) = parse(text);
        assert_eq!(flaws, []);
        let scalar = |key: &str| {
            let (_, node) = documents[0].entry(key).expect("the key");
            let Data::Scalar { style, .. } = &node.data else { panic!("{node:?}") };
            (node.text().to_owned(), *style, node.at)
        };
        assert_eq!(scalar("a"), ("0123".into(), Style::Plain, (1, 4)));
        assert_eq!(scalar("b"), ("0123".into(), Style::Quoted, (2, 4)));
        assert_eq!(scalar("c"), ("1".into(), Style::Quoted, (3, 4)));
        assert_eq!(scalar("d"), ("x\n y\n".into(), Style::Literal, (5, 3)), "its first line");
        assert_eq!(scalar("e"), ("x y".into(), Style::Folded, (8, 3)));
    }

    #[test]
    fn a_place_inside_a_block_is_a_place_in_the_file() {
        for (text, inner, at) in [
            ("d: |\n   x\n   y\n", (2, 1), (3, 4)),
            ("d: |\n\n\n  x\n   y\n", (4, 2), (5, 4)),
            ("d: |2\n    x\n", (1, 3), (2, 5)),
            ("d: >\n  x\n  y\n", (2, 1), (2, 3)),
            ("d: \"x\\ny\"\n", (2, 1), (1, 4)),
        ] {
            let (documents, _) = parse(text);
            let (_, node) = documents[0].entry("d").expect("d");
            assert_eq!(node.within(inner), at, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,60}|([-a-c:&*!|>'\"{}\\[\\],#@ \t\n~]{0,80})") {
            let lines = text.split('\n').count();
            let (documents, flaws) = parse(&text);
            for at in documents.iter().map(|d| d.at).chain(flaws.iter().map(|f| f.at)) {
                prop_assert!(at.0 >= 1 && at.0 <= lines + 1 && at.1 >= 1, "{text:?} {at:?}");
            }
        }
    }
}
