//! One event, and the JSON object that it is in the file, in the API and on the screen.

use super::kind::{Kind, Outcome};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};
use std::fmt;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Longest text of a field, bytes: reasons repeat what others have sent.
pub const TEXT_MAX: usize = 2_048;

/// Names of an event's own; a further field of such a name gets a `_` behind it.
const TAKEN: [&str; 13] = [
    "timestamp",
    "namespace",
    "event",
    "outcome",
    "actor",
    "identity",
    "identityId",
    "service",
    "serviceId",
    "rule",
    "traceId",
    "spanId",
    "sequence",
];

/// An identity or a service, as far as it is known: what was asked for may not exist, and who asks may be a stranger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: Option<String>,
    /// Its name; of what does not exist, what was asked for.
    pub name: Option<String>,
}

impl Named {
    /// Known by both.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: Some(id.into()), name: Some(name.into()) }
    }

    /// Nothing is known but a name.
    pub fn name(name: impl Into<String>) -> Self {
        Self { id: None, name: Some(name.into()) }
    }

    /// Nothing is known but an id.
    pub fn id(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), name: None }
    }

    /// Nothing is known.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Is this its id or its name?
    pub(super) fn is(&self, text: &str) -> bool {
        self.id.as_deref() == Some(text) || self.name.as_deref() == Some(text)
    }

    fn cut(self) -> Self {
        Self { id: self.id.map(cut), name: self.name.map(cut) }
    }
}

/// The span in which something happened (W3C Trace Context).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// Its flags; 1 = sampled.
    pub flags: u8,
}

/// What is refused says who, at what, and by which rule. That is all that makes an event a denial, so none is without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Who was refused.
    pub identity: Named,
    /// What it was refused at: a service of the mesh, or an API of the controller.
    pub service: Named,
    /// The policy or the reason that decided, as the error names it.
    pub rule: String,
}

/// One event. Never put a secret into a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    at: OffsetDateTime,
    kind: Kind,
    outcome: Outcome,
    actor: Option<String>,
    identity: Named,
    service: Named,
    rule: Option<String>,
    trace: Option<TraceContext>,
    fields: Map<String, Value>,
}

impl Event {
    /// It went as it should.
    pub fn success(kind: Kind) -> Self {
        Self::new(kind, Outcome::Success)
    }

    /// It was allowed, but it failed.
    pub fn failure(kind: Kind) -> Self {
        Self::new(kind, Outcome::Failure)
    }

    /// It was refused.
    pub fn denied(kind: Kind, Denial { identity, service, rule }: Denial) -> Self {
        Self::new(kind, Outcome::Denied).identity(identity).service(service).rule(rule)
    }

    fn new(kind: Kind, outcome: Outcome) -> Self {
        Self {
            at: OffsetDateTime::now_utc(),
            kind,
            outcome,
            actor: None,
            identity: Named::unknown(),
            service: Named::unknown(),
            rule: None,
            trace: None,
            fields: Map::new(),
        }
    }

    /// It happened then, and not just now.
    #[must_use]
    pub fn at(self, at: OffsetDateTime) -> Self {
        Self { at, ..self }
    }

    /// Who did it: an identity id, an administrator's name, an address.
    #[must_use]
    pub fn actor(self, who: impl Into<String>) -> Self {
        Self { actor: Some(cut(who.into())), ..self }
    }

    /// Whom it is about.
    #[must_use]
    pub fn identity(self, identity: Named) -> Self {
        Self { identity: identity.cut(), ..self }
    }

    /// Which service it is about.
    #[must_use]
    pub fn service(self, service: Named) -> Self {
        Self { service: service.cut(), ..self }
    }

    /// The policy or the reason that decided.
    #[must_use]
    pub fn rule(self, rule: impl Into<String>) -> Self {
        Self { rule: Some(cut(rule.into())), ..self }
    }

    /// The span in which it happened.
    #[must_use]
    pub fn trace_context(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }

    /// One more fact. A field of a name that events have themselves gets a `_` behind it.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = match value.into() {
            Value::String(text) => Value::String(cut(text)),
            other => other,
        };
        let taken = TAKEN.contains(&name);
        self.fields.insert(if taken { format!("{name}_") } else { name.to_owned() }, value);
        self
    }

    /// When it happened.
    pub fn happened_at(&self) -> OffsetDateTime {
        self.at
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Who did it.
    pub fn who(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// Whom it is about.
    pub fn about(&self) -> &Named {
        &self.identity
    }

    /// Which service it is about.
    pub fn of_service(&self) -> &Named {
        &self.service
    }

    /// The policy or the reason that decided.
    pub fn decided_by(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// The span in which it happened.
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// The further facts.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

/// At most [`TEXT_MAX`] bytes of a text, with a mark where it was cut.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A time as in the JSON of events.
pub(super) fn rfc3339(at: OffsetDateTime) -> String {
    // Formatting fails only for years outside 0..=9999.
    at.format(&Rfc3339).unwrap_or_else(|_| at.unix_timestamp().to_string())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let denied = self.outcome == Outcome::Denied;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &rfc3339(self.at))?;
        map.serialize_entry("namespace", self.kind.namespace())?;
        map.serialize_entry("event", &self.kind)?;
        map.serialize_entry("outcome", &self.outcome)?;
        for (name, value, always) in [
            ("actor", &self.actor, false),
            ("identity", &self.identity.name, denied),
            ("identityId", &self.identity.id, denied),
            ("service", &self.service.name, denied),
            ("serviceId", &self.service.id, denied),
            ("rule", &self.rule, denied),
        ] {
            if value.is_some() || always {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(trace) = &self.trace {
            map.serialize_entry("traceId", &hex(&trace.trace_id))?;
            map.serialize_entry("spanId", &hex(&trace.span_id))?;
        }
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// One line for people: `dial denied: identity 'a', service 's': no Dial service-policy …`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.outcome)?;
        let mut before = ": ";
        for (what, named) in [("identity", &self.identity), ("service", &self.service)] {
            if let Some(known) = named.name.as_ref().or(named.id.as_ref()) {
                write!(f, "{before}{what} '{known}'")?;
                before = ", ";
            }
        }
        match &self.rule {
            Some(rule) => write!(f, ": {rule}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_denial_always_names_identity_service_and_rule() {
        let known = Denial {
            identity: Named::new("i1", "a"),
            service: Named::new("s1", "s"),
            rule: "no policy".into(),
        };
        let stranger =
            Denial { identity: Named::unknown(), service: Named::name("edge-client"), rule: "used".into() };
        for (denial, expected) in [
            (
                known,
                json!({ "identity": "a", "identityId": "i1", "service": "s", "serviceId": "s1", "rule": "no policy" }),
            ),
            (
                stranger,
                json!({ "identity": null, "identityId": null, "service": "edge-client", "serviceId": null, "rule": "used" }),
            ),
        ] {
            let mut line = serde_json::to_value(Event::denied(Kind::Dial, denial)).expect("JSON");
            let object = line.as_object_mut().expect("an object");
            object.remove("timestamp");
            let head: Vec<_> = ["namespace", "event", "outcome"].map(|name| object.remove(name)).into();
            assert_eq!(head, [Some(json!("circuit")), Some(json!("dial")), Some(json!("denied"))]);
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn what_is_not_known_of_a_success_is_left_out_and_names_of_its_own_are_kept() {
        let at = time::macros::datetime!(2026-03-04 05:06:07 UTC);
        let trace = TraceContext { trace_id: [0xab; 16], span_id: [1; 8], flags: 1 };
        let event = Event::success(Kind::RouterOnline)
            .at(at)
            .actor("r1")
            .trace_context(Some(trace))
            .field("event", "x\ny")
            .field("sequence", 7);
        let text = serde_json::to_string(&event).expect("JSON");
        assert_eq!(
            text,
            r#"{"timestamp":"2026-03-04T05:06:07Z","namespace":"router","event":"router.online","outcome":"success","actor":"r1","#
                .to_owned()
                + r#""traceId":"abababababababababababababababab","spanId":"0101010101010101","event_":"x\ny","sequence_":7}"#
        );
    }

    #[test]
    fn texts_are_cut_where_a_character_ends() {
        let event =
            Event::success(Kind::Change).field("reason", "ä".repeat(TEXT_MAX)).rule("x".repeat(TEXT_MAX));
        let cut = event.fields()["reason"].as_str().expect("text");
        assert!(cut.len() <= TEXT_MAX + '…'.len_utf8() && cut.ends_with("ä…"), "{}", cut.len());
        assert_eq!(event.decided_by().map(str::len), Some(TEXT_MAX), "just fits");
    }

    #[test]
    fn people_read_one_line() {
        let denial =
            Denial { identity: Named::new("i1", "a"), service: Named::id("s1"), rule: "no policy".into() };
        assert_eq!(
            Event::denied(Kind::Dial, denial).to_string(),
            "dial denied: identity 'a', service 's1': no policy"
        );
        assert_eq!(Event::success(Kind::LinkUp).to_string(), "link.up success");
    }
}
