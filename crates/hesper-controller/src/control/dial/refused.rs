//! Why a dial is not possible. Pure.

use super::{Ask, Session};
use crate::control::refusal::Refused;
use hesper_model::id::EdgeRouterId;
use hesper_policy::{Rule, routers::Ends};
use tonic::Code;

/// Routers named in one refusal.
const NAMED_MAX: usize = 8;

impl Ask<'_> {
    pub(super) fn no_terminators(&self) -> Refused {
        let (service, instance) = (&self.service.name, &self.request.instance);
        let message = if instance.is_empty() {
            format!("service '{service}' has no terminators: no node hosts it")
        } else {
            format!("service '{service}' has no terminators for instanceId '{instance}'")
        };
        Refused::new(Code::Unavailable, "NO_TERMINATORS", message)
    }

    pub(super) fn none_online(&self, why: &str) -> Refused {
        let message = format!("service '{}' has no online terminators: {why}", self.service.name);
        Refused::new(Code::Unavailable, "NO_ONLINE_TERMINATORS", message)
    }

    /// Policy is against this terminator: a router policy is missing, the terms of the dialer fit no grant, or its host may not bind any
    /// more and is about to go.
    pub(super) fn denied(&self, rule: &Rule) -> Refused {
        if let Rule::UnusableSenderTerms { .. } = rule {
            let message = format!("service '{}' cannot be dialed: {rule}", self.service.name);
            return Refused::new(Code::PermissionDenied, "INVALID_SERVICE", message).rule(rule.to_string());
        }
        let routers = matches!(
            rule,
            Rule::NoEdgeRouterPolicy { .. }
                | Rule::NoServiceEdgeRouterPolicy { .. }
                | Rule::NoCommonEdgeRouter { .. }
        );
        if !routers {
            return self.none_online("its host may not bind it any more").rule(rule.to_string());
        }
        let message = format!("no path to service '{}': {rule}", self.service.name);
        Refused::new(Code::FailedPrecondition, "NO_PATH", message).rule(rule.to_string())
    }

    /// Both ends have routers by policy, but no way between them works now.
    pub(super) fn no_way(&self, allowed: &Ends, host: &Session) -> Refused {
        let own = self.sessions.get(self.dialer.tag);
        let end = |ids: &[EdgeRouterId], session: Option<&Session>| {
            let mut states: Vec<_> =
                ids.iter().take(NAMED_MAX).map(|id| self.router_now(id, session)).collect();
            if ids.len() > NAMED_MAX {
                states.push(format!("{} more", ids.len() - NAMED_MAX));
            }
            states.join(", ")
        };
        let host_name = self.model.identity(&host.identity).map_or("", |i| i.name.as_str());
        let message = format!(
            "no path to service '{}': no router that works now joins this node to its host '{host_name}', and no link \
             between two routers does (for this node: {}; for the host: {})",
            self.service.name,
            end(&allowed.dialer, own),
            end(&allowed.host, Some(host)),
        );
        Refused::new(Code::Unavailable, "NO_PATH", message).passing()
    }

    fn router_now(&self, id: &EdgeRouterId, node: Option<&Session>) -> String {
        let name = self.model.edge_router(id).map_or(id.as_str(), |r| r.name.as_str());
        let routers = self.sessions.routers();
        let attached = node.is_some_and(|n| n.attached.contains_key(id));
        let state = match (routers.is_online(id), routers.is_usable(id)) {
            (false, _) => "is offline",
            (true, false) => "is draining",
            (true, true) if attached => "is attached",
            (true, true) => "is online, not attached",
        };
        format!("'{name}' {state}")
    }
}
