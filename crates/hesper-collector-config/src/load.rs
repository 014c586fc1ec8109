//! From files to a configuration: parse, unwrap, merge, replace variables, read, resolve.

use crate::{
    Class, Component, Config, Id, Remark, Topic, crd, env, exporters, extensions, processors,
    reader::Reader,
    receivers,
    resolve::{self, Written},
    section::Section,
    service,
    tree::{Entry, Tree},
};
use hesper_yaml::{Fault, Place, advice};
use std::collections::BTreeMap;

/// What reading gave: the configuration and the remarks on it, or every fault.
type Loaded = Result<(Config, Vec<Remark>), Vec<Fault>>;

/// Loads a configuration from files, each with its name for messages and its text; `env` knows the environment.
///
/// # Errors
/// Every fault, in the order of the files and lines.
pub fn load(files: &[(&str, &str)], env: &dyn Fn(&str) -> Option<String>) -> Loaded {
    let reader = Reader::new(env);
    let trees: Vec<Tree> = files.iter().filter_map(|(name, text)| crd::read(name, text, &reader)).collect();
    let merged = trees.into_iter().reduce(|mut below, above| {
        below.merge(above);
        below
    });
    let mut config = Config::default();
    match merged {
        Some(mut tree) => {
            env::expand(&mut tree, &reader);
            if let Some((read, written)) = Section::read(&reader, "the configuration".into(), &tree, sections)
            {
                config = read;
                // What could not be read may hold what seems to be missing.
                if reader.is_whole() {
                    resolve::resolve(&config, &written, &reader);
                }
            }
        }
        None if !reader.has_faults() => {
            let file = files.first().map_or("", |(name, _)| *name).into();
            let next = "write receivers, exporters and service with its pipelines";
            reader.fault(&Place { file, line: 1, column: 1 }, "there is no configuration here", next);
        }
        None => {}
    }
    let (faults, remarks) = reader.into_findings(files);
    if faults.is_empty() { Ok((config, remarks)) } else { Err(faults) }
}

fn sections(s: &Section<'_>) -> (Config, Written) {
    let mut written = Written::default();
    let connectors = s.section("connectors", |s| {
        s.anything();
        s.all().first().map(|entry| entry.place.clone())
    });
    if let Some(place) = connectors.flatten() {
        s.fault(
            &place,
            "connectors are not known here",
            "write one pipeline instead of two with a connector between",
        );
    }
    let w = &mut written;
    let config = Config {
        receivers: components(s, Class::Receiver, w, receivers::TYPES, &[], receivers::read),
        processors: components(
            s,
            Class::Processor,
            w,
            processors::TYPES,
            processors::RENAMED,
            processors::read,
        ),
        exporters: components(s, Class::Exporter, w, exporters::TYPES, exporters::RENAMED, exporters::read),
        extensions: components(s, Class::Extension, w, extensions::TYPES, &[], extensions::read),
        service: service::read(s, w),
    };
    (config, written)
}

/// Reads one section of components.
fn components<T>(
    s: &Section<'_>,
    class: Class,
    written: &mut Written,
    types: &[&str],
    renamed: &[(&str, &str)],
    read: fn(&str, &Section<'_>) -> Option<T>,
) -> BTreeMap<Id, Component<T>> {
    let mut components = BTreeMap::new();
    let known = written.components.entry(class).or_default();
    let read = s.section(class.plural(), |s| {
        s.anything();
        for entry in s.all() {
            let Some(id) = new_id(s, class, entry, known) else { continue };
            let kind = id.kind();
            if !types.contains(&kind) && !renamed.iter().any(|(old, _)| *old == kind) {
                let all: Vec<&str> =
                    types.iter().copied().chain(renamed.iter().map(|(old, _)| *old)).collect();
                let next = advice(kind, &format!("types of {}", class.plural()), &all);
                s.fault(&entry.place, format!("{class} type '{kind}' is not known here"), next);
                continue;
            }
            if let Some((old, new)) = renamed.iter().find(|(old, _)| *old == kind) {
                let reason = format!("the {class} type {old} is called {new} now");
                let next = "both names work here; newer Collectors want the new one";
                s.reader.remark(Topic::Renamed, &entry.place, reason, next);
            }
            let read = |s: &Section<'_>| read(kind, s);
            let settings = Section::read(s.reader, format!("{class} '{id}'"), &entry.value, read);
            s.reader.own(class, &id);
            if let Some(settings) = settings.flatten() {
                components.insert(id, Component { place: entry.place.clone(), settings });
            }
        }
    });
    if read.is_none() && s.is_set(class.plural()) {
        s.reader.tear();
    }
    components
}

/// The id of a component that was not there before. All that is named is kept in `known`, readable or not.
fn new_id(s: &Section<'_>, class: Class, entry: &Entry, known: &mut BTreeMap<Id, Place>) -> Option<Id> {
    let id = match entry.key.parse::<Id>() {
        Ok(id) => id,
        Err(next) => {
            s.fault(&entry.place, format!("'{}' is no id", entry.key.escape_debug()), next);
            return None;
        }
    };
    if let Some(first) = known.get(&id) {
        let reason = format!("{class} '{id}' is defined twice, the first time at {first}");
        s.fault(&entry.place, reason, "keep one of them");
        return None;
    }
    known.insert(id.clone(), entry.place.clone());
    Some(id)
}
