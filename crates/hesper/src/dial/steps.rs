//! One dial as it went: its steps in order, from the spans that it left. Pure.

use hesper_trace::Ended;
use serde::Serialize;
use std::time::Duration;

/// A step, and how deep it is inside of others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) depth: usize,
    /// Since the dial began, and how long it took, in milliseconds.
    pub(super) at_ms: f64,
    pub(super) took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// A dial.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dialed {
    pub(super) trace_id: String,
    pub(super) took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// The step at which it failed for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed_at: Option<String>,
    /// By a grant of before.
    pub(super) cached: bool,
    pub(super) attempts: u32,
    pub(super) terminator_id: String,
    pub(super) binder_id: String,
    /// The router that took the pass, if it was shown now.
    pub(super) router: String,
    /// The way that the controller found, as ids of routers; two = over a link.
    pub(super) path: Vec<String>,
    pub(super) steps: Vec<Step>,
}

/// The dial among these spans; none: there is none.
pub(super) fn dialed(spans: &[Ended]) -> Option<Dialed> {
    let dial = spans.iter().find(|span| span.name.starts_with("dial "))?;
    let mut inside: Vec<&Ended> = spans.iter().filter(|span| span.trace_id == dial.trace_id).collect();
    inside.sort_by_key(|span| span.start);
    let mut steps = Vec::new();
    gather(&inside, dial, dial, 0, &mut steps);
    let text = |span: &Ended, key| span.attribute(key).unwrap_or_default().to_owned();
    // What was tried again counts as it went the last time.
    let pass = inside.iter().rev().find(|span| span.name == "pass");
    let failed_at = dial.error.as_deref().and_then(|error| blamed(&steps, error)).map(str::to_owned);
    let ids = pass.and_then(|pass| pass.attribute("mesh.router.ids"));
    Some(Dialed {
        trace_id: dial.trace_id.clone(),
        took_ms: millis(took(dial)),
        error: dial.error.clone(),
        failed_at,
        cached: dial.attribute("mesh.dial.cached") == Some("true"),
        attempts: dial.attribute("mesh.dial.attempts").and_then(|n| n.parse().ok()).unwrap_or(0),
        terminator_id: text(dial, "mesh.terminator.id"),
        binder_id: text(dial, "mesh.binder.id"),
        router: pass.map(|pass| text(pass, "mesh.router.name")).unwrap_or_default(),
        path: ids.map(|ids| ids.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        steps,
    })
}

/// The step by which the dial failed: the last one whose error the dial's own repeats (a dial asks for another way after a failure, and if
/// there is none, that it had failed says more), or else the last that failed.
fn blamed<'a>(steps: &'a [Step], error: &str) -> Option<&'a str> {
    let failed = || steps.iter().rev().filter(|step| step.depth == 0 && step.error.is_some());
    let repeated = |step: &&Step| step.error.as_ref().is_some_and(|why| error.contains(why.as_str()));
    failed().find(repeated).or_else(|| failed().next()).map(|step| step.name.as_str())
}

fn gather(all: &[&Ended], dial: &Ended, around: &Ended, depth: usize, steps: &mut Vec<Step>) {
    for span in all.iter().filter(|span| span.parent_id == around.span_id) {
        steps.push(Step {
            name: span.name.clone(),
            depth,
            at_ms: millis(span.start.duration_since(dial.start).unwrap_or_default()),
            took_ms: millis(took(span)),
            error: span.error.clone(),
        });
        gather(all, dial, span, depth + 1, steps);
    }
}

fn took(span: &Ended) -> Duration {
    span.end.duration_since(span.start).unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    // Whole microseconds.
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn span(id: u8, parent: u8, name: &str, (from, to): (u64, u64)) -> Ended {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        Ended {
            trace_id: "t".into(),
            span_id: id.to_string(),
            parent_id: parent.to_string(),
            name: name.into(),
            start: at(from),
            end: at(to),
            error: None,
            attributes: Vec::new(),
        }
    }

    fn with(span: Ended, attributes: &[(&str, &str)]) -> Ended {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ended { attributes, ..span }
    }

    #[test]
    fn the_steps_stand_in_order_whatever_order_they_ended_in() {
        let spans = [
            span(5, 3, "hesper.control.v1.NodeControl/Dial", (11, 14)),
            span(3, 2, "grant", (10, 15)),
            with(span(4, 2, "pass", (15, 17)), &[("mesh.router.name", "near"), ("mesh.router.ids", "a,b")]),
            span(6, 2, "connect", (17, 20)),
            span(7, 2, "accept", (20, 22)),
            with(
                span(2, 1, "dial metrics", (10, 22)),
                &[("mesh.dial.cached", "false"), ("mesh.dial.attempts", "1"), ("mesh.binder.id", "bob")],
            ),
            span(1, 0, "hesper trace dial", (0, 30)),
        ];
        let dialed = dialed(&spans).expect("a dial");
        let steps: Vec<_> =
            dialed.steps.iter().map(|s| (s.name.as_str(), s.depth, s.at_ms, s.took_ms)).collect();
        assert_eq!(
            steps,
            [
                ("grant", 0, 0.0, 5.0),
                ("hesper.control.v1.NodeControl/Dial", 1, 1.0, 3.0),
                ("pass", 0, 5.0, 2.0),
                ("connect", 0, 7.0, 3.0),
                ("accept", 0, 10.0, 2.0)
            ]
        );
        assert_eq!((dialed.took_ms, dialed.cached, dialed.attempts), (12.0, false, 1));
        assert_eq!((dialed.router.as_str(), dialed.binder_id.as_str()), ("near", "bob"));
        assert_eq!(dialed.path, ["a", "b"]);
        assert_eq!((dialed.error, dialed.failed_at), (None, None));
    }

    #[test]
    fn a_failure_names_the_last_step_that_failed() {
        let failed = |span: Ended| Ended { error: Some("no".into()), ..span };
        let spans = [
            failed(span(3, 2, "connect", (1, 2))),
            failed(span(4, 2, "accept", (3, 4))),
            failed(span(2, 0, "dial metrics", (0, 5))),
        ];
        let dialed = dialed(&spans).expect("a dial");
        assert_eq!((dialed.error.as_deref(), dialed.failed_at.as_deref()), (Some("no"), Some("accept")));
    }

    #[test]
    fn that_there_is_no_other_way_is_not_why_it_failed() {
        let failed = |span: Ended, why: &str| Ended { error: Some(why.into()), ..span };
        let spans = [
            failed(span(3, 2, "accept", (1, 2)), "no target"),
            failed(span(4, 2, "grant", (3, 4)), "no other"),
            failed(span(2, 0, "dial metrics", (0, 5)), "it was: no target"),
        ];
        assert_eq!(dialed(&spans).and_then(|dial| dial.failed_at).as_deref(), Some("accept"));
    }

    #[test]
    fn without_a_dial_there_is_nothing_to_tell() {
        assert_eq!(dialed(&[span(1, 0, "hesper trace dial", (0, 1))]), None);
    }
}
