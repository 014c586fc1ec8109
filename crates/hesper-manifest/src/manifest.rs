//! What the files declare: entities, the set they belong to, and the tests.

use crate::{
    Fault, Place, Test,
    fields::{self, Absent, Fields, KINDS, Key, Shape},
    refer,
    snapshot::Snapshot,
    value::{Reader, Reference},
};
use hesper_model::entity::Kind;
use hesper_yaml::{At, Data, Node, advice};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

/// One file to read.
#[derive(Clone, Debug)]
pub struct Source {
    /// As people know it; stands in every message.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// One entity as it is declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Kind and name.
    pub key: Key,
    /// Where.
    pub place: Place,
    /// The set of its document.
    pub set: Option<String>,
    /// The fields that were written, in named form.
    pub given: Fields,
    /// The data of a config with its places.
    pub(crate) data: Option<Node>,
    pub(crate) references: Vec<Reference>,
    pub(crate) at: BTreeMap<&'static str, At>,
}

impl Declared {
    /// Every field of a new entity: what was written, and defaults.
    pub fn complete(&self) -> Fields {
        let written = |f: &fields::Field| self.given.get(f.name).cloned();
        fields::of(self.key.kind)
            .iter()
            .map(|f| (f.name, written(f).unwrap_or_else(|| f.default())))
            .collect()
    }

    /// Where a field is written, else where the entity is.
    pub(crate) fn place_of(&self, field: &str) -> Place {
        match self.at.get(field) {
            Some((line, column)) => Place { line: *line, column: *column, ..self.place.clone() },
            None => self.place.clone(),
        }
    }
}

/// Everything that some files declare.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The entities.
    pub entities: BTreeMap<Key, Declared>,
    /// The sets that the files name, also those without an entity.
    pub sets: BTreeSet<String>,
    /// The tests, in the order of the files.
    pub tests: Vec<Test>,
}

impl Manifest {
    /// Reads the files. With a snapshot, names may also refer to what is there already.
    ///
    /// # Errors
    /// Every fault of every file, in the order of the places. When a file cannot be read as YAML, nothing is said about names
    /// that refer to nothing: they may be in it.
    pub fn read(sources: &[Source], present: Option<&Snapshot>) -> Result<Self, Vec<Fault>> {
        let mut manifest = Self::default();
        let (mut faults, mut whole) = (Vec::new(), true);
        for source in sources {
            let (documents, flaws) = hesper_yaml::parse(&source.text);
            let mut reader = Reader::new(&source.name);
            for flaw in flaws {
                whole &= !flaw.fatal;
                reader.flaw(flaw);
            }
            let mut set = None;
            for document in &documents {
                manifest.document(&mut reader, document, &mut set);
            }
            faults.append(&mut reader.faults);
        }
        if whole {
            refer::check(&manifest, present, &mut faults);
        }
        if faults.is_empty() {
            return Ok(manifest);
        }
        let rank = |fault: &Fault| sources.iter().position(|s| *s.name == *fault.place.file);
        faults.sort_by_cached_key(|fault| (rank(fault), fault.clone()));
        faults.dedup();
        Err(faults)
    }

    /// Where an entity is declared.
    pub fn place(&self, key: &Key) -> Option<&Place> {
        self.entities.get(key).map(|declared| &declared.place)
    }

    /// One document. A set holds for the documents behind it in the same file too.
    fn document(&mut self, reader: &mut Reader, document: &Node, set: &mut Option<String>) {
        let Data::Mapping(pairs) = &document.data else {
            let reason = format!("a document must be a mapping, not {}", document.what());
            reader.fault(document.at, reason, "begin with a section such as `services:`");
            return;
        };
        if let Some((_, node)) = document.entry("set")
            && let Ok(name) = reader.name(node, "set")
        {
            self.sets.insert(name.clone());
            *set = Some(name);
        }
        for (key, value) in pairs {
            match key.text() {
                "set" => {}
                "tests" => Test::read(reader, value, &mut self.tests),
                word => match KINDS.into_iter().find(|k| k.plural() == word) {
                    Some(kind) => self.section(reader, kind, value, set.as_deref()),
                    None => unknown_section(reader, key),
                },
            }
        }
    }

    fn section(&mut self, reader: &mut Reader, kind: Kind, node: &Node, set: Option<&str>) {
        let items = match &node.data {
            Data::Sequence(items) => items,
            _ if node.is_null() => return,
            _ => {
                let reason = format!("{} must be a list, not {}", kind.plural(), node.what());
                reader.fault(node.at, reason, "write each entry as `- name: …`");
                return;
            }
        };
        for item in items {
            let Some(declared) = entity(reader, kind, item, set) else { continue };
            match self.entities.entry(declared.key.clone()) {
                Entry::Vacant(free) => drop(free.insert(declared)),
                Entry::Occupied(taken) => {
                    let first = &taken.get().place;
                    let reason = format!("{} is declared twice, the first time at {first}", taken.key());
                    reader.faults.push(Fault::new(declared.place, reason, "keep one of them"));
                }
            }
        }
    }
}

fn unknown_section(reader: &mut Reader, key: &Node) {
    let mut known: Vec<&str> = KINDS.iter().map(|k| k.plural()).collect();
    known.extend(["set", "tests"]);
    let (reason, next) = match key.text() {
        "terminators" => (
            "terminators cannot be declared".to_owned(),
            "nodes make them when they bind: declare a Bind service-policy".to_owned(),
        ),
        "enrollments" => (
            "enrollments cannot be declared".to_owned(),
            "'policy apply --jwt-dir DIR' writes the tokens of new identities".to_owned(),
        ),
        word => (format!("'{word}' is no section"), advice(word, "sections", &known)),
    };
    reader.fault(key.at, reason, next);
}

fn entity(reader: &mut Reader, kind: Kind, node: &Node, set: Option<&str>) -> Option<Declared> {
    let Data::Mapping(pairs) = &node.data else {
        let reason = format!("an entry of {} must be a mapping, not {}", kind.plural(), node.what());
        reader.fault(node.at, reason, "write it as `- name: …`");
        return None;
    };
    let before = reader.references.len();
    let mut given = Fields::new();
    let mut at = BTreeMap::new();
    for (key, value) in pairs {
        let Some(field) = fields::named(kind, key.text()) else {
            if key.text() != "name" {
                unknown_field(reader, kind, key);
            }
            continue;
        };
        at.insert(field.name, value.at);
        if value.is_null() && field.absent != Absent::Refused && !matches!(field.shape, Shape::Roles(_)) {
            given.insert(field.name, field.default());
        } else if let Ok(value) = reader.value(field, value) {
            given.insert(field.name, value);
        } else {
            // Named in its own fault; not missing besides.
            given.insert(field.name, Value::Null);
        }
    }
    if given.get("encryptionRequired") == Some(&Value::Bool(false)) {
        let place = at.get("encryptionRequired").copied().unwrap_or(node.at);
        reader.fault(place, "every stream is encrypted end to end, there is no other kind", "leave it out");
    }
    for field in fields::of(kind).iter().filter(|f| f.absent == Absent::Refused) {
        if !given.contains_key(field.name) {
            let reason = format!("{} is missing", field.name);
            let next = match field.shape {
                Shape::OneOf(words) => format!("write `{}: {}`", field.name, words.join("` or `")),
                _ => format!("add `{}:`", field.name),
            };
            reader.fault(node.at, reason, next);
        }
    }
    let references = reader.references.split_off(before);
    let Some((_, name)) = node.entry("name") else {
        reader.fault(node.at, format!("this {kind} has no name"), "add `name:`");
        return None;
    };
    let key = Key::new(kind, reader.name(name, "name").ok()?);
    if kind == Kind::ConfigType && fields::is_builtin(&key.name) {
        reader.fault(name.at, format!("{key} is built in and cannot be declared"), "choose another name");
        return None;
    }
    let data = node.entry("data").map(|(_, data)| data.clone());
    let place = reader.place(node.at);
    Some(Declared { key, place, set: set.map(str::to_owned), given, data, references, at })
}

fn unknown_field(reader: &mut Reader, kind: Kind, key: &Node) {
    let mut known: Vec<&str> = fields::of(kind).iter().map(|f| f.name).collect();
    known.insert(0, "name");
    let article = if kind.singular().starts_with(['e', 'i']) { "an" } else { "a" };
    let reason = format!("'{}' is no field of {article} {kind}", key.text());
    let next = match key.text() {
        "id" => "leave it out: files name things, the controller gives them ids".to_owned(),
        word => advice(word, "fields", &known),
    };
    reader.fault(key.at, reason, next);
}
