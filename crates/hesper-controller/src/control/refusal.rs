//! A refused call: what the caller is told, and what the operator's log says. Pure.

use hesper_proto::control::Refusal;
use prost::Message as _;
use tonic::{Code, Status};

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// gRPC status.
    pub(crate) status: Code,
    /// Stable cause, OpenZiti's where it has one.
    pub(crate) code: &'static str,
    /// What the caller is told.
    pub(crate) message: String,
    /// The rule as the caller may know it; empty = none.
    pub(crate) rule: String,
    /// The rule for the operator, where the caller may not know it.
    pub(crate) inner_rule: Option<String>,
    /// It may be otherwise in a moment: somebody is about to attach or to come back.
    pub(crate) passing: bool,
}

impl Refused {
    /// A refusal that only says why.
    pub(crate) fn new(status: Code, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), rule: String::new(), inner_rule: None, passing: false }
    }

    /// With the rule that decided, or that is missing.
    #[must_use]
    pub(crate) fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = rule.into();
        self
    }

    /// With the rule that only the operator may see.
    #[must_use]
    pub(crate) fn inner_rule(mut self, rule: impl Into<String>) -> Self {
        self.inner_rule = Some(rule.into());
        self
    }

    /// Worth waiting a moment.
    #[must_use]
    pub(crate) fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    /// The rule as the operator sees it in log and audit.
    pub(crate) fn operator_rule(&self) -> &str {
        self.inner_rule.as_deref().unwrap_or(if self.rule.is_empty() { &self.message } else { &self.rule })
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let detail =
            Refusal { code: refused.code.to_owned(), rule: refused.rule, message: refused.message.clone() };
        Self::with_details(refused.status, refused.message, detail.encode_to_vec().into())
    }
}

/// The service is unknown, or known and forbidden: the caller cannot tell which. `asked` is the caller's own word for it.
pub(crate) fn no_such_service(asked: &str, identity: &str, policy: &str) -> Refused {
    let verb = policy.to_lowercase();
    let message = format!(
        "no service named '{asked}' that identity '{identity}' may {verb}: check the name, or ask for a {policy} \
         service-policy that has both"
    );
    let rule = format!("no {policy} service-policy has both identity '{identity}' and service '{asked}'");
    Refused::new(Code::NotFound, "INVALID_SERVICE", message).rule(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_carries_the_refusal() {
        let refused = no_such_service("s", "a", "Dial").inner_rule("there is no service 's'");
        assert_eq!(refused.operator_rule(), "there is no service 's'");
        let status = Status::from(refused);
        assert_eq!(status.code(), Code::NotFound);
        let detail = Refusal::decode(status.details()).expect("a refusal in the details");
        assert_eq!((detail.code.as_str(), detail.message.as_str()), ("INVALID_SERVICE", status.message()));
        assert!(status.message().contains("may dial") && detail.rule.starts_with("no Dial service-policy"));
    }
}
