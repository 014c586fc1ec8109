//! What was found, one line for each check.

use crate::output;
use anyhow::Result;
use serde::Serialize;
use serde_json::json;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Warning,
    Failure,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) check: String,
    pub(super) status: Status,
    /// What was found.
    pub(super) found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) next: String,
}

/// All checks. Each is told as soon as it is done, unless JSON is wanted.
#[derive(Debug)]
pub(super) struct Report {
    checks: Vec<Check>,
    as_json: bool,
}

impl Report {
    pub(super) fn new(as_json: bool) -> Self {
        Self { checks: Vec::new(), as_json }
    }

    /// All is well.
    pub(super) fn ok(&mut self, check: impl Into<String>, found: impl Into<String>) -> Result<()> {
        self.add(Status::Ok, check, found, "")
    }

    /// It works, and may not for long, or not for everybody.
    pub(super) fn warn(
        &mut self,
        check: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Result<()> {
        self.add(Status::Warning, check, found, next)
    }

    /// It does not work.
    pub(super) fn fail(
        &mut self,
        check: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Result<()> {
        self.add(Status::Failure, check, found, next)
    }

    fn add(
        &mut self,
        status: Status,
        check: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Result<()> {
        let (check, found, next) = (check.into(), found.into(), next.into());
        let check = Check { check, status, found, next };
        if !self.as_json {
            output::line(line(&check))?;
        }
        self.checks.push(check);
        Ok(())
    }

    fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    /// Tells the sum.
    ///
    /// # Errors
    /// A check failed.
    pub(super) fn end(self) -> Result<()> {
        let (failures, warnings) = (self.count(Status::Failure), self.count(Status::Warning));
        if self.as_json {
            output::json(&json!({"checks": self.checks, "failures": failures, "warnings": warnings}))?;
        }
        match failures {
            0 => Ok(()),
            1 => Err(anyhow::anyhow!("1 check failed")),
            more => Err(anyhow::anyhow!("{more} checks failed")),
        }
    }
}

/// `failure  controller TCP: nobody answers; start it`. What others sent must not break the line.
fn line(check: &Check) -> String {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Failure => "failure",
    };
    let next = if check.next.is_empty() { String::new() } else { format!("; {}", check.next) };
    let text = format!("{status:<8} {}: {}{next}", check.check, check.found);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Status, next: &str) -> Check {
        Check { check: "clock".into(), status, found: "two\nlines".into(), next: next.into() }
    }

    #[test]
    fn each_check_is_one_line_that_says_what_to_do() {
        assert_eq!(line(&check(Status::Ok, "")), "ok       clock: two\u{fffd}lines");
        assert_eq!(line(&check(Status::Warning, "set it")), "warning  clock: two\u{fffd}lines; set it");
        assert_eq!(line(&check(Status::Failure, "set it")), "failure  clock: two\u{fffd}lines; set it");
    }

    #[test]
    fn only_failures_fail() {
        let mut report = Report { checks: vec![check(Status::Warning, "x")], as_json: false };
        assert!(Report { checks: report.checks.clone(), as_json: false }.end().is_ok());
        report.checks.extend([check(Status::Failure, "x"), check(Status::Failure, "y")]);
        assert_eq!(report.end().map_err(|e| e.to_string()), Err("2 checks failed".into()));
    }
}
