//! What the `tracestate` of a span says of sampling: `ot=th:THRESHOLD;rv:RANDOMNESS`.

use super::threshold::{Randomness, Threshold};

/// Longest value of one member, as the specification has it.
const LONGEST: usize = 256;

/// A `tracestate`, as far as sampling goes.
#[derive(Debug, Default)]
pub(super) struct TraceState {
    pub(super) threshold: Option<Threshold>,
    pub(super) randomness: Option<Randomness>,
    /// The other fields of the member `ot`.
    fields: Vec<String>,
    /// The other members.
    members: Vec<String>,
}

impl TraceState {
    /// `None` for what is no `tracestate`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut state = Self::default();
        for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            match member.split_once('=')? {
                ("", _) => return None,
                ("ot", value) => state.read(value)?,
                _ => state.members.push(member.to_owned()),
            }
        }
        Some(state)
    }

    fn read(&mut self, value: &str) -> Option<()> {
        if value.len() > LONGEST {
            return None;
        }
        for field in value.split(';').filter(|field| !field.is_empty()) {
            match field.split_once(':')? {
                ("th", threshold) => self.threshold = Some(Threshold::parse(threshold)?),
                ("rv", randomness) => self.randomness = Some(Randomness::parse(randomness)?),
                _ => self.fields.push(field.to_owned()),
            }
        }
        Some(())
    }

    /// What changed comes first.
    pub(super) fn write(&self) -> String {
        let threshold = self.threshold.map(|threshold| format!("th:{threshold}"));
        let randomness = self.randomness.map(|randomness| format!("rv:{randomness}"));
        let fields: Vec<String> =
            threshold.into_iter().chain(randomness).chain(self.fields.iter().cloned()).collect();
        let ours = Some(format!("ot={}", fields.join(";"))).filter(|_| !fields.is_empty());
        ours.into_iter().chain(self.members.iter().cloned()).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_stays() {
        for (text, written) in [
            ("", ""),
            ("a=b, c=d", "a=b,c=d"),
            ("a=b,ot=rv:9b8233f7e3a151;th:8;x:y,c=d", "ot=th:8;rv:9b8233f7e3a151;x:y,a=b,c=d"),
            ("ot=", ""),
        ] {
            assert_eq!(TraceState::parse(text).expect(text).write(), written);
        }
        for text in ["a", "=b", "ot=th", "ot=th:x", "ot=rv:12", &format!("ot=x:{}", "y".repeat(300))] {
            assert!(TraceState::parse(text).is_none(), "{text}");
        }
    }
}
