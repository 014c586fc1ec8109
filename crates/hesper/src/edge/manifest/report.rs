//! Faults, tests and plans, for people and as JSON.
//!
//! What is wrong goes to standard error, one line each; the summary is the command's own error message. With `-j` the
//! findings go to standard output as JSON instead.

use crate::{one_line, output};
use anyhow::{Result, anyhow};
use hesper_manifest::{Assertion, Change, Failure, Fault, Manifest, Plan, Report, Snapshot, fields};
use serde_json::{Map, Value, json};

/// Longest value shown to people.
const MAX_SHOWN: usize = 160;

/// `1 change`, `2 changes`.
pub(crate) fn count(n: usize, what: &str) -> String {
    let plural = match what.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{what}s"),
    };
    format!("{n} {}", if n == 1 { what } else { &plural })
}

/// Tells the faults of the files; a single one is the message itself.
pub(crate) fn faults(faults: &[Fault], json: bool) -> anyhow::Error {
    if json {
        let list: Vec<Value> = faults.iter().map(fault_json).collect();
        if let Err(e) = output::json(&json!({ "faults": list })) {
            return e.into();
        }
    } else if let [one] = faults {
        return anyhow!("{one}");
    } else {
        faults.iter().for_each(|fault| eprintln!("{}", one_line(&fault.to_string())));
    }
    anyhow!("{} in the policy files; nothing was applied", count(faults.len(), "fault"))
}

fn fault_json(fault: &Fault) -> Value {
    let Fault { place, reason, next } = fault;
    json!({ "file": *place.file, "line": place.line, "column": place.column, "reason": reason, "next": next })
}

/// Fails when a test does; a single failure is the message itself.
pub(crate) fn tests(report: &Report, json: bool) -> Result<()> {
    let failures = &report.failures;
    if failures.is_empty() {
        return Ok(());
    }
    if json {
        let list: Vec<Value> = failures.iter().map(failure_json).collect();
        output::json(&json!({ "tests": report.tests, "failures": list }))?;
    } else if let [one] = failures.as_slice() {
        return Err(anyhow!("{one}; nothing was applied"));
    } else {
        failures.iter().for_each(|failure| eprintln!("{}", one_line(&failure.to_string())));
    }
    Err(anyhow!(
        "{} in {}; nothing was applied",
        count(failures.len(), "failure"),
        count(report.tests, "policy test")
    ))
}

fn failure_json(failure: &Failure) -> Value {
    json!({
        "file": *failure.place.file, "line": failure.place.line, "column": failure.place.column,
        "identity": failure.identity, "verb": failure.verb, "object": failure.object,
        "expected": failure.expected, "got": failure.got, "rule": failure.rule, "why": failure.why,
    })
}

/// One thing that a test says: `{identity, verb: dial|bind|use, kind, name, via, allowed}`.
fn assertion_json(assertion: &Assertion) -> Value {
    let Assertion { identity, verb, object, via, allowed } = assertion;
    let (kind, name) = (object.kind.singular(), &object.name);
    json!({ "identity": identity, "verb": verb, "kind": kind, "name": name, "via": via, "allowed": allowed })
}

fn passed(report: &Report) -> String {
    match report.tests {
        0 => "no tests".to_owned(),
        n => format!("{} passed", count(n, "test")),
    }
}

/// What `check` says when all is well.
pub(crate) fn checked(manifest: &Manifest, files: usize, report: &Report, json: bool) -> Result<()> {
    let entities = manifest.entities.len();
    if json {
        let assertions: Vec<Value> = report.assertions.iter().map(assertion_json).collect();
        let told = json!({
            "files": files, "entities": entities, "sets": manifest.sets, "tests": report.tests,
            "assertions": assertions, "faults": [], "failures": [],
        });
        return Ok(output::json(&told)?);
    }
    let (entities, files) = (count(entities, "entity"), count(files, "file"));
    Ok(output::line(format_args!("ok: {entities} in {files}, {}", passed(report)))?)
}

/// What `diff` says.
pub(crate) fn plan(plan: &Plan, manifest: &Manifest, report: &Report, json: bool) -> Result<()> {
    if json {
        let changes: Vec<Value> = plan.changes.iter().map(change_json).collect();
        let left: Vec<String> = plan.left.iter().map(ToString::to_string).collect();
        output::json(&json!({ "changes": changes, "keptWithoutPrune": left, "tests": report.tests }))?;
        return Ok(());
    }
    if plan.changes.is_empty() {
        let entities = manifest.entities.len();
        let are = if entities == 1 { "is" } else { "are" };
        output::line(format_args!(
            "nothing to do: {} {are} as declared; {}",
            count(entities, "entity"),
            passed(report)
        ))?;
    } else {
        proposed(plan, report)?;
    }
    left(plan);
    Ok(())
}

/// Says what pruning would delete.
pub(crate) fn left(plan: &Plan) {
    if !plan.left.is_empty() {
        let left: Vec<String> = plan.left.iter().map(ToString::to_string).collect();
        let text = format!("hint: no longer declared, and kept without --prune: {}", left.join(", "));
        eprintln!("{}", one_line(&text));
    }
}

/// Every change with its fields, and how many there are.
pub(crate) fn proposed(plan: &Plan, report: &Report) -> Result<()> {
    for change in &plan.changes {
        for line in change_lines(change) {
            output::line(one_line(&line))?;
        }
    }
    let (created, changed, deleted) = plan.counts();
    let tests = passed(report);
    Ok(output::line(format_args!("{created} to create, {changed} to change, {deleted} to delete; {tests}"))?)
}

/// `+`, `~` or `-`, and one indented line for each field.
fn change_lines(change: &Change) -> Vec<String> {
    match change {
        Change::Create { key, set, fields } => {
            let owner = set.as_ref().map(|set| format!(" (set {set})")).unwrap_or_default();
            let written = fields::of(key.kind).iter().filter_map(|f| {
                let value = fields.get(f.name).filter(|value| **value != f.default())?;
                Some(format!("    {}: {}", f.name, shown(value)))
            });
            std::iter::once(format!("+ {key}{owner}")).chain(written).collect()
        }
        Change::Update { key, fields, .. } => {
            let changed =
                fields.iter().map(|f| format!("    {}: {} -> {}", f.field, shown(&f.from), shown(&f.to)));
            std::iter::once(format!("~ {key}")).chain(changed).collect()
        }
        Change::Delete { key, .. } => vec![format!("- {key}")],
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// One change as JSON: `action`, `kind`, `name`, and its fields.
pub(crate) fn change_json(change: &Change) -> Value {
    let key = change.key();
    let mut told = Map::new();
    told.insert("kind".into(), json!(key.kind.singular()));
    told.insert("name".into(), json!(key.name));
    match change {
        Change::Create { set, fields, .. } => {
            told.insert("action".into(), json!("create"));
            told.insert("set".into(), json!(set));
            told.insert("fields".into(), json!(fields));
        }
        Change::Update { id, fields, .. } => {
            told.insert("action".into(), json!("update"));
            told.insert("id".into(), json!(id));
            let fields: Map<_, _> =
                fields.iter().map(|f| (f.field.to_owned(), json!({ "from": f.from, "to": f.to }))).collect();
            told.insert("fields".into(), Value::Object(fields));
        }
        Change::Delete { id, .. } => {
            told.insert("action".into(), json!("delete"));
            told.insert("id".into(), json!(id));
        }
    }
    Value::Object(told)
}

/// Everything there is, in named form, under its kinds.
pub(crate) fn exported(snapshot: &Snapshot) -> Value {
    let mut kinds = Map::new();
    for (key, present) in &snapshot.entities {
        let mut entity: Map<String, Value> =
            present.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        entity.insert("name".into(), json!(key.name));
        entity.insert("set".into(), json!(present.set));
        let list = kinds.entry(key.kind.plural()).or_insert_with(|| json!([]));
        list.as_array_mut().into_iter().for_each(|list| list.push(Value::Object(entity.clone())));
    }
    Value::Object(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_well() {
        assert_eq!(
            [count(1, "entity"), count(2, "entity"), count(0, "change")],
            ["1 entity", "2 entities", "0 changes"]
        );
    }
}
