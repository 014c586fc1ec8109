//! Carries a plan out: one request after the other, each told as soon as it is done.

use super::report;
use crate::{
    api_client::{Action, Changed, Moved, NotFound, Session},
    edge::enrollment,
    new_file::NewFile,
    output,
};
use anyhow::{Context, Result, anyhow};
use hesper_manifest::{Change, Key, Plan};
use hesper_model::entity::Kind;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, os::unix::fs::DirBuilderExt, path::Path};

/// Makes every change of the plan, in its order.
///
/// # Errors
/// The first that fails. What was done and what was not is told before; what was done stays.
pub(crate) async fn run(
    session: &Session,
    plan: &Plan,
    ids: BTreeMap<Key, String>,
    jwt_dir: Option<&Path>,
    json: bool,
) -> Result<()> {
    // The files come first: with a path that cannot be written, nothing is created.
    let tokens = jwt_dir.map(|dir| reserve(dir, plan)).transpose()?;
    let without_token = tokens.is_none();
    let mut work = Work { session, ids, tokens: tokens.unwrap_or_default(), json, told: Vec::new() };
    for (done, change) in plan.changes.iter().enumerate() {
        if let Err(error) = work.make(change).await {
            return work.stopped(plan, done, as_moved(error));
        }
    }
    if json {
        output::json(&json!({ "changes": work.told, "notDone": [] }))?;
    } else {
        output::line(format_args!("done: {}", report::count(plan.changes.len(), "change")))?;
        report::left(plan);
    }
    let new = plan.changes.iter().filter(|c| needs_token(c)).count();
    if without_token && new > 0 {
        let (who, make) =
            (report::count(new, "new node"), "'hesper create enrollment ott|erott NAME -o FILE'");
        eprintln!("hint: {who} without an enrollment token: {make} makes one, as --jwt-dir would have");
    }
    Ok(())
}

struct Work<'a> {
    session: &'a Session,
    ids: BTreeMap<Key, String>,
    tokens: BTreeMap<Key, NewFile>,
    json: bool,
    /// What was done, for JSON.
    told: Vec<Value>,
}

impl Work<'_> {
    async fn make(&mut self, change: &Change) -> Result<()> {
        let key = change.key();
        match change {
            Change::Create { .. } => {
                let id = self.create(change).await?;
                self.ids.insert(key.clone(), id);
            }
            Change::Update { id, version, .. } => {
                let body = Value::Object(change.body(&self.ids)?);
                let path = format!("{}/{id}", key.kind.plural());
                let answer = self.session.patch_if(Action::Updating, &path, &body, version).await;
                answer.map_err(|e| as_conflict(e, key))?;
            }
            Change::Delete { id, version, .. } => {
                let path = format!("{}/{id}", key.kind.plural());
                let answer = self.session.delete_if(Action::Deleting, &path, version).await;
                answer.map_err(|e| as_conflict(e, key))?;
                self.ids.remove(key);
            }
        }
        self.tell(change)
    }

    /// Creates it and gives its id. A token goes to its file and nowhere else.
    async fn create(&mut self, change: &Change) -> Result<String> {
        let key = change.key();
        let mut body = change.body(&self.ids)?;
        let token = self.tokens.remove(key);
        if key.kind == Kind::Identity {
            body.insert("enrollment".into(), json!({ "ott": token.is_some() }));
        }
        let path = key.kind.plural();
        let mut created = self.session.post(Action::Creating, path, &Value::Object(body)).await?;
        let id = output::cell(created.pointer("/data/id"));
        if let Some(file) = token {
            let path = file.path().display().to_string();
            let written = enrollment::take_token(&mut created).and_then(|jwt| file.write(jwt.as_bytes()));
            written.with_context(|| {
                let method = if key.kind == Kind::Identity { "ott" } else { "erott" };
                format!("{key} was created, but its enrollment token was not written to {path}; 'hesper create enrollment {method}' makes another")
            })?;
        }
        Ok(id)
    }

    fn tell(&mut self, change: &Change) -> Result<()> {
        let key = change.key();
        if self.json {
            let mut told = report::change_json(change);
            told["id"] = json!(self.ids.get(key).cloned().or_else(|| told["id"].as_str().map(str::to_owned)));
            self.told.push(told);
            return Ok(());
        }
        let line = match change {
            Change::Create { .. } => format!("created {key}"),
            Change::Update { .. } => format!("changed {key}"),
            Change::Delete { .. } => format!("deleted {key}"),
        };
        Ok(output::line(crate::one_line(&line))?)
    }

    /// Tells what was not done.
    fn stopped(self, plan: &Plan, done: usize, error: anyhow::Error) -> Result<()> {
        let open = &plan.changes[done..];
        if self.json {
            let open: Vec<Value> = open.iter().map(report::change_json).collect();
            output::json(&json!({ "changes": self.told, "notDone": open }))?;
        } else {
            for change in open {
                let verb = match change {
                    Change::Create { .. } => "create",
                    Change::Update { .. } => "change",
                    Change::Delete { .. } => "delete",
                };
                output::line(crate::one_line(&format!("not done: {verb} {}", change.key())))?;
            }
        }
        let at = open.first().map(|c| c.key().to_string()).unwrap_or_default();
        let next = "what was done stays; when the cause is gone, apply the same files again";
        Err(error.context(format!(
            "stopped at {at} with {done} of {} done ({next})",
            report::count(plan.changes.len(), "change")
        )))
    }
}

/// The tests passed on another network than the one that is there now.
fn as_moved(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Moved>() {
        return anyhow!(
            "somebody else has changed the network since it was read, so the tests may not hold any more; nothing further was changed"
        );
    }
    error
}

/// What was changed or deleted by others since it was read is not touched.
fn as_conflict(error: anyhow::Error, key: &Key) -> anyhow::Error {
    if error.is::<Changed>() {
        return anyhow!(
            "{key} was changed by somebody else since it was read, and was not overwritten; 'hesper policy diff' shows what it is now"
        );
    }
    if error.is::<NotFound>() {
        return anyhow!(
            "{key} was deleted by somebody else since it was read; 'hesper policy diff' shows what is missing now"
        );
    }
    error
}

const fn is_enrolled(kind: Kind) -> bool {
    matches!(kind, Kind::Identity | Kind::EdgeRouter)
}

fn needs_token(change: &Change) -> bool {
    matches!(change, Change::Create { key, .. } if is_enrolled(key.kind))
}

/// A file for the token of each new identity and router; the directory is made when there is none.
fn reserve(dir: &Path, plan: &Plan) -> Result<BTreeMap<Key, NewFile>> {
    let new = plan.changes.iter().filter(|c| needs_token(c)).map(Change::key);
    let mut files = BTreeMap::new();
    for key in new {
        if files.is_empty() && !dir.is_dir() {
            let made = fs::DirBuilder::new().mode(0o700).create(dir);
            made.with_context(|| format!("cannot create {}", dir.display()))?;
        }
        files.insert(key.clone(), NewFile::reserve(&dir.join(file_name(key)))?);
    }
    Ok(files)
}

/// `NAME.jwt`. A name is no path: what would make it one is written as `%2F`, a leading dot as `%2E`.
fn file_name(key: &Key) -> String {
    let name = key.name.replace('%', "%25").replace('/', "%2F");
    let name = name.strip_prefix('.').map(|rest| format!("%2E{rest}")).unwrap_or(name);
    format!("{name}.jwt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for (name, file) in [
            ("web-1", "web-1.jwt"),
            ("../x", "%2E.%2Fx.jwt"),
            ("a/b%2Fc", "a%2Fb%252Fc.jwt"),
            ("é b", "é b.jwt"),
        ] {
            assert_eq!(file_name(&Key::new(Kind::Identity, name)), file);
        }
    }

    #[test]
    fn token_files_are_there_before_anything_is_created_or_nothing_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path().join("tokens");
        let create = |kind, name: &str| Change::Create {
            key: Key::new(kind, name),
            set: None,
            fields: Default::default(),
        };
        let plan = |changes| Plan { changes, left: Vec::new() };
        assert!(reserve(&to, &plan(vec![create(Kind::Service, "s")])).expect("nothing").is_empty());
        assert!(!to.exists());
        let both = plan(vec![create(Kind::Identity, "a"), create(Kind::EdgeRouter, "b")]);
        assert_eq!(reserve(&to, &both).expect("reserved").len(), 2);
        assert!(fs::read_dir(&to).expect("a directory").next().is_none(), "dropped before they were written");
        fs::write(to.join("b.jwt"), "kept").expect("written");
        let error = reserve(&to, &both).expect_err("taken").to_string();
        assert!(error.contains("b.jwt exists already"), "{error}");
        assert!(!to.join("a.jwt").exists());
    }
}
