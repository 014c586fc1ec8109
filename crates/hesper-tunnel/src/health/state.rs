//! What the results of checks mean: plain state machines, no clock.
//!
//! As OpenZiti's tunneler has it: a service is passing until a check fails. After each result every action of the check whose trigger
//! and conditions hold is carried out, so `increase cost` with trigger `fail` adds at each further failure; cost never rises while the
//! target is marked unhealthy, and never falls below what is configured. One difference: `change` with `consecutiveEvents` or `duration`
//! fires once, when the change has lasted so long (there, it never would).

use hesper_model::{
    config::{Action, ActionKind, Trigger},
    entity::Precedence,
};
use std::time::Instant;

/// One check: the results so far.
#[derive(Clone, Debug)]
pub struct Run {
    actions: Vec<Pending>,
    passing: bool,
    count: u64,
    since: Option<Instant>,
    /// The results before were others.
    changed: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    action: Action,
    /// Its change was noticed already.
    fired: bool,
}

impl Run {
    /// Of a check that has not been run; it counts as passing.
    pub fn new(actions: impl IntoIterator<Item = Action>) -> Self {
        let actions = actions.into_iter().map(|action| Pending { action, fired: false }).collect();
        Self { actions, passing: true, count: 0, since: None, changed: false }
    }

    /// Did it pass the last time?
    pub fn is_passing(&self) -> bool {
        self.passing
    }

    /// A result; returns what is to be done, in the order of the config.
    pub fn result(&mut self, now: Instant, passed: bool) -> Vec<ActionKind> {
        if passed != self.passing {
            (self.passing, self.count, self.since, self.changed) = (passed, 0, None, true);
            self.actions.iter_mut().for_each(|a| a.fired = false);
        }
        self.count += 1;
        let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
        let mut due = Vec::new();
        for pending in &mut self.actions {
            let action = &pending.action;
            let triggered = match action.trigger {
                Trigger::Pass => passed,
                Trigger::Fail => !passed,
                Trigger::Change => self.changed && !pending.fired,
            };
            let often = self.count >= action.consecutive_events.unwrap_or(0).into();
            let long = action.duration.is_none_or(|d| lasted >= d);
            if triggered && often && long {
                pending.fired = true;
                due.push(action.action);
            }
        }
        due
    }
}

/// Precedence and cost of a target; the smaller is the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// Precedence.
    pub precedence: Precedence,
    /// Cost.
    pub cost: u16,
}

/// One target: what its checks have done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    baseline: Terms,
    /// On top of the baseline's cost.
    extra: u16,
    unhealthy: bool,
}

impl Health {
    /// A healthy target.
    pub fn new(baseline: Terms) -> Self {
        Self { baseline, extra: 0, unhealthy: false }
    }

    /// It is configured otherwise; its health stays.
    pub fn rebase(&mut self, baseline: Terms) {
        self.baseline = baseline;
    }

    /// What follows from one result.
    pub fn apply(&mut self, actions: &[ActionKind]) {
        let was_failed = self.terms().precedence == Precedence::Failed;
        for action in actions {
            match *action {
                ActionKind::MarkHealthy => self.unhealthy = false,
                ActionKind::MarkUnhealthy => self.unhealthy = true,
                ActionKind::IncreaseCost(_) if was_failed => {}
                ActionKind::IncreaseCost(n) => {
                    self.extra = self.extra.saturating_add(n).min(u16::MAX - self.baseline.cost);
                }
                ActionKind::DecreaseCost(n) => self.extra = self.extra.saturating_sub(n),
                ActionKind::SendEvent => {}
            }
        }
    }

    /// What it has now.
    pub fn terms(&self) -> Terms {
        Terms {
            precedence: if self.unhealthy { Precedence::Failed } else { self.baseline.precedence },
            cost: self.baseline.cost.saturating_add(self.extra),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn run(actions: Value) -> Run {
        Run::new(serde_json::from_value::<Vec<Action>>(actions).expect("actions"))
    }

    /// Results one second apart: `.` passes, `x` fails. Each with the actions that follow.
    fn play(actions: Value, results: &str) -> String {
        let mut run = run(actions);
        let start = Instant::now();
        let step = |(n, result): (u64, char)| {
            let due = run.result(start + Duration::from_secs(n), result == '.');
            due.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
        };
        (0..).zip(results.chars()).map(step).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn triggers_table() {
        let action = |trigger: &str, more: Value| {
            let mut action = json!({"trigger": trigger, "action": "send event"});
            action.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            json!([action])
        };
        for (trigger, more, results, fires) in [
            ("fail", json!({}), ".xx.x", "01101"),
            ("pass", json!({}), ".xx.x", "10010"),
            ("change", json!({}), "..xx..x", "0010101"),
            ("change", json!({}), "x.", "11"),
            // From so many on, at each further result.
            ("fail", json!({"consecutiveEvents": 2}), "x.xxx.xx", "00011001"),
            ("pass", json!({"consecutiveEvents": 2}), "..x...", "010011"),
            ("fail", json!({"consecutiveEvents": 0}), "x", "1"),
            // A change that did not last is none.
            ("change", json!({"consecutiveEvents": 2}), ".x.xxx...", "000010010"),
            // By time: the first result of a run is at zero.
            ("fail", json!({"duration": "2s"}), "xxxx.xxx", "00110001"),
            ("pass", json!({"duration": "1s"}), "..x..", "01001"),
            ("change", json!({"duration": "1s"}), "..xxx..", "0001001"),
            ("fail", json!({"duration": "2s", "consecutiveEvents": 4}), "xxxxx", "00011"),
        ] {
            let played = play(action(trigger, more.clone()), results);
            let played: String =
                played.split(',').map(|due| if due.is_empty() { '0' } else { '1' }).collect();
            assert_eq!(played, fires, "{trigger} {more} {results}");
        }
    }

    #[test]
    fn several_actions_of_one_check_are_carried_out_in_order() {
        let actions = json!([
            {"trigger": "fail", "action": "increase cost 100"},
            {"trigger": "fail", "consecutiveEvents": 2, "action": "mark unhealthy"},
            {"trigger": "change", "action": "send event"},
            {"trigger": "pass", "consecutiveEvents": 2, "action": "mark healthy"},
            {"trigger": "pass", "action": "decrease cost 25"}
        ]);
        assert_eq!(
            play(actions, "xx.."),
            "increase cost 100+send event,increase cost 100+mark unhealthy,send event+decrease cost 25,mark healthy+decrease cost 25"
        );
    }

    #[test]
    fn health_table() {
        let of = |precedence, cost| Health::new(Terms { precedence, cost });
        for (mut health, actions, expected) in [
            (of(Precedence::Default, 10), "increase cost 5|increase cost 5", "default 20"),
            (of(Precedence::Default, 10), "increase cost 5|decrease cost 100", "default 10"),
            (of(Precedence::Default, 65_000), "increase cost 60000|decrease cost 35", "default 65500"),
            (of(Precedence::Required, 10), "mark unhealthy", "failed 10"),
            (of(Precedence::Required, 10), "mark unhealthy|mark healthy", "required 10"),
            // Not while it is unhealthy.
            (of(Precedence::Default, 0), "mark unhealthy|increase cost 7", "failed 0"),
            (
                of(Precedence::Default, 0),
                "increase cost 7,mark unhealthy|increase cost 7|mark healthy",
                "default 7",
            ),
            (of(Precedence::Default, 0), "mark unhealthy,increase cost 7", "failed 7"),
            (of(Precedence::Failed, 1), "increase cost 7|mark healthy", "failed 1"),
            (of(Precedence::Default, 1), "send event", "default 1"),
        ] {
            for result in actions.split('|') {
                let kinds: Vec<ActionKind> = result.split(',').map(|a| a.parse().expect(a)).collect();
                health.apply(&kinds);
            }
            let terms = health.terms();
            assert_eq!(format!("{} {}", terms.precedence, terms.cost), expected, "{actions}");
        }
    }

    #[test]
    fn terms_are_ordered_best_first() {
        let of = |precedence, cost| Terms { precedence, cost };
        assert!(of(Precedence::Required, 9) < of(Precedence::Default, 0));
        assert!(of(Precedence::Default, 9) < of(Precedence::Failed, 0));
        assert!(of(Precedence::Default, 1) < of(Precedence::Default, 2));
    }

    proptest! {
        #[test]
        fn cost_stays_between_what_is_configured_and_the_highest(
            cost in any::<u16>(), steps in prop::collection::vec((0..4_u8, any::<u16>()), 0..50)
        ) {
            let mut health = Health::new(Terms { precedence: Precedence::Default, cost });
            for (kind, n) in steps {
                health.apply(&[match kind {
                    0 => ActionKind::IncreaseCost(n),
                    1 => ActionKind::DecreaseCost(n),
                    2 => ActionKind::MarkUnhealthy,
                    _ => ActionKind::MarkHealthy,
                }]);
                prop_assert!(health.terms().cost >= cost);
            }
        }
    }
}
