//! The configuration inside a file: as it is, or wrapped in the operator's manifest (`kind: OpenTelemetryCollector`), where
//! `spec.config` is a string (`opentelemetry.io/v1alpha1`) or a mapping (`v1beta1`). What else the manifest says, its `env` too,
//! is for the operator.

use crate::{reader::Reader, remark::Topic, tree::Tree};
use hesper_yaml::{At, Data, Flaw, Node, Place};
use std::sync::Arc;

const GROUP: &str = "opentelemetry.io/";
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];
const KIND: &str = "OpenTelemetryCollector";

/// The configuration of one file; none when there is none in it, or when it cannot be read.
pub(crate) fn read(name: &str, text: &str, reader: &Reader<'_>) -> Option<Tree> {
    let file: Arc<str> = name.into();
    let (documents, flaws) = hesper_yaml::parse(text);
    let source = File { file, reader };
    source.flaws(flaws, &|at| at);
    let mut found: Option<Tree> = None;
    for document in &documents {
        let Some(tree) = source.document(document) else { continue };
        if let Some(first) = &found {
            let reason = format!("a second configuration in one file, the first is at {}", first.place);
            reader.fault(&tree.place, reason, "put it into a file of its own; several files are merged");
        } else {
            found = Some(tree);
        }
    }
    found
}

struct File<'r> {
    file: Arc<str>,
    reader: &'r Reader<'r>,
}

impl File<'_> {
    fn place(&self, (line, column): At) -> Place {
        Place { file: self.file.clone(), line, column }
    }

    fn flaws(&self, flaws: Vec<Flaw>, at: &dyn Fn(At) -> At) {
        for flaw in flaws {
            if flaw.fatal {
                self.reader.tear();
            }
            self.reader.fault(&self.place(at(flaw.at)), flaw.reason, flaw.next);
        }
    }

    fn document(&self, node: &Node) -> Option<Tree> {
        let (Some((_, version)), Some((_, kind))) = (node.entry("apiVersion"), node.entry("kind")) else {
            return self.configuration(node, &|at| at);
        };
        if kind.text() != KIND || !version.text().starts_with(GROUP) {
            let reason = format!("this manifest of kind {} is not read here", kind.text());
            self.reader.remark(Topic::Source, &self.place(node.at), reason, "give it to kubectl");
            return None;
        }
        if !VERSIONS.contains(&&version.text()[GROUP.len()..]) {
            let reason = format!("the version {} of the manifest is not known here", version.text());
            self.reader.fault(&self.place(version.at), reason, "v1alpha1 and v1beta1 are");
            return None;
        }
        let spec = node.entry("spec").map(|(_, spec)| spec);
        let Some((_, config)) = spec.and_then(|spec| spec.entry("config")) else {
            let at = spec.map_or(node.at, |spec| spec.at);
            self.reader.fault(
                &self.place(at),
                "this manifest has no spec.config",
                "write the configuration there",
            );
            return None;
        };
        match &config.data {
            Data::Scalar { text, .. } => self.inner(config, text),
            Data::Sequence(_) | Data::Mapping(_) => self.configuration(config, &|at| at),
        }
    }

    /// A configuration that is the text of a scalar.
    fn inner(&self, config: &Node, text: &str) -> Option<Tree> {
        let at = |inner| config.within(inner);
        let (documents, flaws) = hesper_yaml::parse(text);
        let whole = flaws.is_empty();
        self.flaws(flaws, &at);
        match &documents[..] {
            [node] => self.configuration(node, &at),
            _ => {
                if whole {
                    self.reader.fault(
                        &self.place(config.at),
                        "spec.config must hold one document",
                        "write one",
                    );
                }
                None
            }
        }
    }

    fn configuration(&self, node: &Node, at: &dyn Fn(At) -> At) -> Option<Tree> {
        if let Data::Mapping(_) = node.data {
            return Some(Tree::new(node, &self.file, at));
        }
        let reason = "a configuration must be a mapping";
        self.reader.fault(&self.place(at(node.at)), reason, "begin with a section such as `receivers:`");
        None
    }
}
