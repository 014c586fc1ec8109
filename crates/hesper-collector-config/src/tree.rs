//! The files as one tree: every value with its file, line and column; several files merged.

use hesper_yaml::{At, Data, Node, Place, Style};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A value.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) place: Place,
    pub(crate) body: Body,
}

#[derive(Clone)]
pub(crate) enum Body {
    Text(Text),
    List(Vec<Tree>),
    Map(Vec<Entry>),
}

/// A scalar: its source text, which is what a password or a name wants, and whether it may mean anything else.
#[derive(Clone)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// Written without quotes: perhaps a number, a yes or no, or nothing.
    pub(crate) plain: bool,
    /// It came from the environment: it may be secret, so no message shows it.
    pub(crate) env: bool,
    /// What it means where a list or a mapping is wanted (`receivers: ${env:RECEIVERS}`).
    pub(crate) tree: Option<Box<Tree>>,
    /// It could not be made out, which is told; nothing more is to be said about it.
    pub(crate) broken: bool,
}

/// A key and its value.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Tree,
}

impl Tree {
    /// The tree of a node; `at` says where in the file a place of the node is.
    pub(crate) fn new(node: &Node, file: &Arc<str>, at: &dyn Fn(At) -> At) -> Self {
        let place = |node: &Node| {
            let (line, column) = at(node.at);
            Place { file: file.clone(), line, column }
        };
        let body = match &node.data {
            Data::Scalar { text, style } => {
                let plain = *style == Style::Plain;
                Body::Text(Text { text: text.clone(), plain, env: false, tree: None, broken: false })
            }
            Data::Sequence(items) => Body::List(items.iter().map(|item| Self::new(item, file, at)).collect()),
            Data::Mapping(pairs) => {
                let entry = |(key, value): &(Node, Node)| Entry {
                    key: key.text().to_owned(),
                    place: place(key),
                    value: Self::new(value, file, at),
                };
                let merged = pairs.iter().position(|(key, _)| is_merge(key));
                let mut entries: Vec<Entry> = pairs.iter().map(entry).collect();
                if let Some(merged) = merged {
                    let merged = entries.remove(merged).value;
                    fill(&mut entries, merged);
                }
                Body::Map(entries)
            }
        };
        Self { place: place(node), body }
    }

    /// Lays another tree over this one, as the Collector does with several files: mappings are merged key by key, everything
    /// else, lists too, is replaced.
    pub(crate) fn merge(&mut self, over: Self) {
        match (&mut self.body, over) {
            (Body::Map(below), Self { body: Body::Map(above), .. }) => {
                let index: BTreeMap<String, usize> =
                    below.iter().enumerate().map(|(i, entry)| (entry.key.clone(), i)).collect();
                for entry in above {
                    match index.get(&entry.key) {
                        Some(i) => {
                            let known = &mut below[*i];
                            if !matches!((&known.value.body, &entry.value.body), (Body::Map(_), Body::Map(_)))
                            {
                                known.place = entry.place;
                            }
                            known.value.merge(entry.value);
                        }
                        None => below.push(entry),
                    }
                }
            }
            (_, over) => *self = over,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.body, Body::Text(text) if text.is_null())
    }

    /// The same where a list or mapping is wanted.
    pub(crate) fn structure(&self) -> &Self {
        match &self.body {
            Body::Text(Text { tree: Some(tree), .. }) => tree,
            _ => self,
        }
    }

    /// What it is, for messages; never what it says.
    pub(crate) fn what(&self) -> &'static str {
        match &self.body {
            Body::List(_) => "a list",
            Body::Map(_) => "a mapping",
            Body::Text(text) if text.is_null() => "nothing",
            Body::Text(_) => "a single value",
        }
    }
}

impl Text {
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// What it says, for messages; what came from the environment is not shown.
    pub(crate) fn shown(&self) -> String {
        match self.env {
            true => "what the environment says".into(),
            false => format!("'{}'", self.text.escape_debug()),
        }
    }
}

/// `<<: *other`, YAML's merge key, which configurations of the Collector use (<https://yaml.org/type/merge.html>).
fn is_merge(key: &Node) -> bool {
    matches!(&key.data, Data::Scalar { text, style: Style::Plain } if text == "<<")
}

/// Adds what a mapping does not say itself from those that it merges, of which the earlier ones win.
fn fill(entries: &mut Vec<Entry>, merged: Tree) {
    let mut known: BTreeSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    let maps = match merged.body {
        Body::List(maps) => maps,
        _ => vec![merged],
    };
    for map in maps {
        match map.body {
            Body::Map(others) => {
                entries.extend(others.into_iter().filter(|other| known.insert(other.key.clone())))
            }
            // No key of anything: told as one that nobody knows.
            body => entries.push(Entry {
                key: "<<".into(),
                place: map.place.clone(),
                value: Tree { body, ..map },
            }),
        }
    }
}
