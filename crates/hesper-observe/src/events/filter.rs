//! Which events somebody wants to see. Pure.

use super::{
    event::Event,
    kind::{Kind, Outcome},
};

/// What an event must be like; what is empty asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these.
    pub kinds: Vec<Kind>,
    /// One of these.
    pub outcomes: Vec<Outcome>,
    /// About this identity, or done by it: id or name.
    pub identity: Option<String>,
    /// About this service: id or name.
    pub service: Option<String>,
}

/// No event is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no event '{given}': use a name or a namespace of {}", names().join(", "))]
pub struct UnknownEvent {
    given: String,
}

/// No event ends so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no outcome '{given}': use success, denied or failure")]
pub struct UnknownOutcome {
    given: String,
}

fn names() -> Vec<String> {
    Kind::ALL.iter().map(|kind| format!("{} ({})", kind.name(), kind.namespace())).collect()
}

impl Filter {
    /// Events of this name, or of this namespace, besides those of before.
    ///
    /// # Errors
    /// There is no such event.
    pub fn event(&mut self, given: &str) -> Result<(), UnknownEvent> {
        let before = self.kinds.len();
        let of = Kind::ALL.iter().filter(|kind| kind.name() == given || kind.namespace() == given);
        self.kinds.extend(of);
        if self.kinds.len() == before { Err(UnknownEvent { given: shown(given) }) } else { Ok(()) }
    }

    /// Events with this outcome, besides those of before.
    ///
    /// # Errors
    /// There is no such outcome.
    pub fn outcome(&mut self, given: &str) -> Result<(), UnknownOutcome> {
        let outcome = Outcome::of_name(given).ok_or_else(|| UnknownOutcome { given: shown(given) })?;
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Is it wanted?
    pub fn fits(&self, event: &Event) -> bool {
        let by_kind = self.kinds.is_empty() || self.kinds.contains(&event.kind());
        let by_outcome = self.outcomes.is_empty() || self.outcomes.contains(&event.outcome());
        let identity = |wanted: &str| event.about().is(wanted) || event.who() == Some(wanted);
        by_kind
            && by_outcome
            && self.identity.as_deref().is_none_or(identity)
            && self.service.as_deref().is_none_or(|wanted| event.of_service().is(wanted))
    }
}

/// What was given, as it may stand in an error.
fn shown(given: &str) -> String {
    given.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Denial, Named};

    #[test]
    fn each_condition_must_hold() {
        let denial = Denial {
            identity: Named::new("i1", "alice"),
            service: Named::new("s1", "web"),
            rule: "no policy".into(),
        };
        let denied = Event::denied(Kind::Dial, denial);
        let changed = Event::success(Kind::Change).actor("alice");
        let filter = |event: &str, outcome: &str, identity: &str, service: &str| {
            let mut filter = Filter::default();
            if !event.is_empty() {
                filter.event(event).expect("an event");
            }
            if !outcome.is_empty() {
                filter.outcome(outcome).expect("an outcome");
            }
            let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Filter { identity: text(identity), service: text(service), ..filter }
        };
        for (wanted, of_denied, of_changed) in [
            (filter("", "", "", ""), true, true),
            (filter("dial", "", "", ""), true, false),
            (filter("circuit", "", "", ""), true, false),
            (filter("entityChange", "", "", ""), false, true),
            (filter("", "denied", "", ""), true, false),
            (filter("", "", "alice", ""), true, true),
            (filter("", "", "i1", ""), true, false),
            (filter("", "", "", "web"), true, false),
            (filter("", "", "", "s1"), true, false),
            (filter("", "", "alice", "other"), false, false),
            (filter("dial", "success", "", ""), false, false),
        ] {
            assert_eq!((wanted.fits(&denied), wanted.fits(&changed)), (of_denied, of_changed), "{wanted:?}");
        }
    }

    #[test]
    fn what_there_is_not_is_told_with_what_there_is() {
        let error = Filter::default().event("dail\n").expect_err("no event").to_string();
        assert!(
            error.starts_with("there is no event 'dail':") && error.contains("dial (circuit)"),
            "{error}"
        );
        let error = Filter::default().outcome("ok").expect_err("no outcome").to_string();
        assert!(error.contains("'ok'") && error.contains("denied"), "{error}");
    }
}
