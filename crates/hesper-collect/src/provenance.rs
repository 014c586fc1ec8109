//! Whose data is it? Pure: from what the receiver knows of the connection to what is stamped on every resource.
//!
//! The identity is the first one that was proved on the way: by certificate over the mesh, or by credentials. A gateway whose
//! word counts tells what it knew; if it knew nobody, it is the identity itself. Attributes of the sender are never asked.

use hesper_otlp::{Refusal, Stamp, stamp::RESERVED_PREFIX};
use hesper_telemetry::{
    net::Peer,
    origin::{Origin, Sender},
};

/// Id of the identity.
pub const IDENTITY_ID: &str = "hesper.identity.id";
/// Name of the identity.
pub const IDENTITY_NAME: &str = "hesper.identity.name";
/// Names of the gateways between that identity and this one.
pub const FORWARDED_FOR: &str = "hesper.forwarded.for";

/// Most gateways on the way of a batch: more is a loop.
pub const MAX_GATEWAYS: usize = 16;

/// Settles who the identity is. `authenticator` is the component that checked the credentials, if one did; `own` is our name
/// in the mesh.
///
/// # Errors
/// The batch goes in circles.
pub fn settle(
    mut origin: Origin,
    peer: &Peer,
    authenticator: Option<&str>,
    own: Option<&str>,
) -> Result<Origin, Refusal> {
    if let Some(own) = own.filter(|own| origin.forwarded_for.iter().any(|name| name == own)) {
        return Err(Refusal::Denied(format!(
            "this batch has passed the gateway {own} before: an exporter of it leads back to one of its receivers"
        )));
    }
    if origin.forwarded_for.len() > MAX_GATEWAYS {
        return Err(Refusal::Denied(format!(
            "this batch has passed {} gateways, more than {MAX_GATEWAYS}: the exporters of some lead in a circle",
            origin.forwarded_for.len()
        )));
    }
    if origin.sender.is_some() {
        return Ok(origin);
    }
    if let Some(peer) = &peer.mesh {
        // A gateway that knew nobody: it is the first that is known.
        origin.forwarded_for.clear();
        origin.sender = Some(peer.sender.clone());
    } else if let Some(authenticator) = authenticator {
        let name = origin.auth.get("username").map_or(authenticator, String::as_str).to_owned();
        origin.sender = Some(Sender { id: format!("{authenticator}:{name}"), name });
    }
    Ok(origin)
}

/// What is written on every resource, and what is taken out everywhere: all that claims to be ours.
pub fn stamp(origin: &Origin) -> Stamp {
    let mut stamp = Stamp::new(RESERVED_PREFIX);
    if let Some(sender) = &origin.sender {
        stamp = stamp.with(IDENTITY_ID, &sender.id).with(IDENTITY_NAME, &sender.name);
    }
    if !origin.forwarded_for.is_empty() {
        stamp = stamp.with_list(FORWARDED_FOR, origin.forwarded_for.iter().map(String::as_str));
    }
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_telemetry::net::MeshPeer;

    fn mesh(name: &str) -> Peer {
        let sender = Sender { id: format!("id-{name}"), name: name.into() };
        Peer { mesh: Some(MeshPeer { sender, terms: Default::default() }), ..Peer::default() }
    }

    fn origin(sender: Option<&str>, forwarded_for: &[&str]) -> Origin {
        Origin {
            sender: sender.map(|name| Sender { id: format!("id-{name}"), name: name.into() }),
            forwarded_for: forwarded_for.iter().map(ToString::to_string).collect(),
            ..Origin::default()
        }
    }

    fn who(origin: &Origin) -> (Option<&str>, Vec<&str>) {
        let name = origin.sender.as_ref().map(|sender| sender.name.as_str());
        (name, origin.forwarded_for.iter().map(String::as_str).collect())
    }

    #[test]
    fn the_identity_is_the_first_that_was_proved() {
        let settled = |o, peer: &Peer, auth| settle(o, peer, auth, Some("centre")).expect("settled");
        let stranger = settled(origin(None, &[]), &Peer::default(), None);
        assert_eq!(who(&stranger), (None, vec![]));
        let direct = settled(origin(Some("shop"), &[]), &mesh("shop"), None);
        assert_eq!(who(&direct), (Some("shop"), vec![]));
        let forwarded = settled(origin(Some("shop"), &["edge"]), &mesh("edge"), None);
        assert_eq!(who(&forwarded), (Some("shop"), vec!["edge"]));
        let unknown = settled(origin(None, &["edge"]), &mesh("edge"), None);
        assert_eq!(who(&unknown), (Some("edge"), vec![]), "the gateway that knew nobody");
    }

    #[test]
    fn credentials_prove_an_identity_where_no_certificate_does() {
        let mut user = origin(None, &[]);
        user.auth.insert("username".into(), "user-1".into());
        let settled = settle(user.clone(), &Peer::default(), Some("basicauth/server"), None);
        let sender = settled.expect("settled").sender.expect("a sender");
        assert_eq!((sender.id.as_str(), sender.name.as_str()), ("basicauth/server:user-1", "user-1"));
        let over_mesh = settle(user, &mesh("shop"), Some("basicauth/server"), None).expect("settled");
        assert_eq!(who(&over_mesh).0, Some("shop"), "the certificate counts for more");
        let token = settle(origin(None, &[]), &Peer::default(), Some("bearertokenauth"), None);
        assert_eq!(who(&token.expect("settled")).0, Some("bearertokenauth"));
    }

    #[test]
    fn a_circle_is_refused() {
        let own = settle(
            origin(Some("shop"), &["edge", "centre", "edge-2"]),
            &mesh("edge-2"),
            None,
            Some("centre"),
        );
        assert!(matches!(own, Err(Refusal::Denied(reason)) if reason.contains("centre")));
        let long: Vec<String> = (0..=MAX_GATEWAYS).map(|n| n.to_string()).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        assert!(matches!(settle(origin(None, &long), &mesh("e"), None, None), Err(Refusal::Denied(_))));
    }
}
