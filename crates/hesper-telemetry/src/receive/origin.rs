//! Who sent a request: the peer itself, or whom a gateway speaks for.

use super::metadata::read_binary;
use crate::{
    auth::AuthData,
    net::Peer,
    origin::{BatchId, FORWARDED_HEADER, Forwarded, Origin},
};
use bytes::Bytes;
use hesper_otlp::Refusal;
use http::{HeaderMap, HeaderName, header};

/// Most gateways that a batch may have passed.
pub(crate) const MAX_GATEWAYS: usize = 16;
/// Most bytes of kept headers and of what the authenticator found. With the names of the gateways it must fit into a header of the next hop, in base64.
const MAX_KEPT: usize = 8 << 10;

/// Headers that say who somebody is by a secret.
const SECRET: [HeaderName; 4] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE];
/// Headers that are about the message and the connection, not about the sender.
const TRANSPORT: [HeaderName; 12] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Which headers are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keep {
    /// Any at all?
    pub(crate) include_metadata: bool,
    /// Headers that carry secrets here.
    pub(crate) secret: Vec<HeaderName>,
}

/// What is known about a request's sender, and how a gateway calls the batch.
pub(crate) fn build(
    headers: &HeaderMap,
    peer: &Peer,
    auth: AuthData,
    keep: &Keep,
    now_ms: u64,
) -> Result<(Origin, Option<BatchId>), Refusal> {
    if let Some(forwarded) = forwarded(headers, peer)? {
        return Ok((forwarded.origin, Some(forwarded.batch)));
    }
    let mut metadata = Vec::new();
    if keep.include_metadata {
        let kept = headers.iter().filter(|(name, _)| is_kept(name, keep));
        metadata.extend(
            kept.map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))),
        );
    }
    let headers_len: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    let auth_len: usize = auth.iter().map(|(key, value)| key.len() + value.len()).sum();
    if headers_len + auth_len > MAX_KEPT {
        let reason = format!(
            "headers and credentials that are kept with the data have more than {MAX_KEPT} bytes; send fewer headers"
        );
        return Err(Refusal::Malformed(reason));
    }
    let sender = peer.mesh.as_ref().map(|mesh| mesh.sender.clone());
    let origin =
        Origin { sender, auth, metadata, peer: peer.address, received_ms: now_ms, ..Origin::default() };
    Ok((origin, None))
}

/// What a gateway says. Nobody else is asked.
fn forwarded(headers: &HeaderMap, peer: &Peer) -> Result<Option<Forwarded>, Refusal> {
    let Some(gateway) = peer.mesh.as_ref().filter(|mesh| mesh.terms.gateway) else { return Ok(None) };
    let mut values = headers.get_all(FORWARDED_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = |reason: String| Refusal::Malformed(format!("the header {FORWARDED_HEADER} {reason}"));
    if values.next().is_some() {
        return Err(malformed("is there more than once".to_owned()));
    }
    let bytes = read_binary(value.as_bytes()).ok_or_else(|| malformed("is no base64".to_owned()))?;
    let mut forwarded = Forwarded::decode(&bytes).map_err(|error| malformed(error.to_string()))?;
    let passed = &mut forwarded.origin.forwarded_for;
    passed.push(gateway.sender.name.clone());
    if passed.len() > MAX_GATEWAYS {
        return Err(malformed(format!(
            "names more than {MAX_GATEWAYS} gateways; do they send to each other?"
        )));
    }
    Ok(Some(forwarded))
}

fn is_kept(name: &HeaderName, keep: &Keep) -> bool {
    !SECRET.contains(name)
        && !TRANSPORT.contains(name)
        && !keep.secret.contains(name)
        && !name.as_str().starts_with("grpc-")
        && name.as_str() != FORWARDED_HEADER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::MeshPeer, origin::Sender, receive::metadata::write_binary};
    use hesper_model::config::otlp::SenderTerms;
    use http::HeaderValue;
    use std::sync::Arc;

    const KEEP: Keep = Keep { include_metadata: true, secret: Vec::new() };

    fn peer(name: &str, gateway: bool) -> Peer {
        let sender = Sender { id: format!("id-{name}"), name: name.to_owned() };
        Peer {
            mesh: Some(MeshPeer {
                sender,
                terms: Arc::new(SenderTerms { gateway, ..SenderTerms::default() }),
            }),
            ..Peer::default()
        }
    }

    fn forwarded(gateways: usize) -> Forwarded {
        let sender = Some(Sender { id: "id-shop".into(), name: "shop".into() });
        let forwarded_for = (0..gateways).map(|i| format!("gateway-{i}")).collect();
        let origin = Origin { sender, forwarded_for, received_ms: 3, ..Origin::default() };
        Forwarded { origin, batch: BatchId { queue: [7; 16], number: 9 } }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    fn of(headers: &HeaderMap, peer: &Peer) -> Result<(Origin, Option<BatchId>), Refusal> {
        build(headers, peer, AuthData::new(), &KEEP, 5)
    }

    #[test]
    fn who_sends_is_the_peer_with_what_is_known_of_it() {
        let auth: AuthData = [("username".to_owned(), "user-1".to_owned())].into();
        let mut peer = peer("shop", false);
        peer.address = Some([10, 0, 0, 1].into());
        let (origin, id) =
            build(&HeaderMap::new(), &peer, auth.clone(), &Keep::default(), 5).expect("an origin");
        let sender = Some(Sender { id: "id-shop".into(), name: "shop".into() });
        assert_eq!(origin, Origin { sender, auth, peer: peer.address, received_ms: 5, ..Origin::default() });
        assert_eq!(id, None);
    }

    #[test]
    fn headers_are_kept_but_for_secrets_and_the_transport() {
        let mut all = headers(&[
            ("authorization", "Basic x"),
            ("cookie", "a=b"),
            ("proxy-authorization", "x"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", "1S"),
            ("hesper-forwarded-bin", "AA"),
            ("x-token", "secret"),
            ("user-agent", "me"),
            ("x-tenant", "a"),
        ]);
        all.append("x-tenant", HeaderValue::from_static("b"));
        let keep = Keep { secret: vec![HeaderName::from_static("x-token")], ..KEEP };
        let (origin, _) = build(&all, &Peer::default(), AuthData::new(), &keep, 5).expect("an origin");
        let kept: Vec<_> = origin.metadata.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
        assert_eq!(kept, [("user-agent", &b"me"[..]), ("x-tenant", b"a"), ("x-tenant", b"b")]);
        let (origin, _) =
            build(&all, &Peer::default(), AuthData::new(), &Keep::default(), 5).expect("an origin");
        assert_eq!(origin.metadata, []);
    }

    #[test]
    fn more_than_the_next_hop_can_be_told_is_refused() {
        let long = headers(&[("x-long", &"a".repeat(MAX_KEPT))]);
        assert!(matches!(of(&long, &Peer::default()), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn a_gateway_speaks_for_others_and_is_named() {
        let said = forwarded(1);
        let headers = headers(&[(FORWARDED_HEADER, &write_binary(&said.encode())), ("x-tenant", "a")]);
        let (origin, id) = of(&headers, &peer("edge", true)).expect("an origin");
        assert_eq!(origin.forwarded_for, ["gateway-0", "edge"]);
        assert_eq!((origin.sender, origin.received_ms), (said.origin.sender, 3));
        assert_eq!((id, origin.metadata), (Some(said.batch), vec![]));
        let (origin, id) = of(&HeaderMap::new(), &peer("edge", true)).expect("an origin");
        assert_eq!((origin.sender.expect("itself").name, id), ("edge".into(), None), "its own data");
    }

    #[test]
    fn nobody_else_speaks_for_others() {
        let headers = headers(&[(FORWARDED_HEADER, &write_binary(&forwarded(0).encode()))]);
        let (origin, id) = of(&headers, &peer("shop-2", false)).expect("an origin");
        assert_eq!((origin.sender.expect("itself").name, id), ("shop-2".into(), None));
        assert_eq!((origin.forwarded_for, origin.metadata), (vec![], vec![]));
        let (origin, id) = of(&headers, &Peer::default()).expect("an origin");
        assert_eq!((origin.sender, id), (None, None));
    }

    #[test]
    fn a_gateway_that_makes_no_sense_is_refused() {
        let edge = peer("edge", true);
        let text = |n| write_binary(&forwarded(n).encode());
        assert!(of(&headers(&[(FORWARDED_HEADER, &text(MAX_GATEWAYS - 1))]), &edge).is_ok());
        let mut twice = headers(&[(FORWARDED_HEADER, &text(0))]);
        twice.append(FORWARDED_HEADER, HeaderValue::from_static("AA"));
        let odd = [
            headers(&[(FORWARDED_HEADER, &text(MAX_GATEWAYS))]),
            headers(&[(FORWARDED_HEADER, "!")]),
            headers(&[(FORWARDED_HEADER, "")]),
            twice,
        ];
        for headers in odd {
            assert!(matches!(of(&headers, &edge), Err(Refusal::Malformed(_))), "{headers:?}");
        }
    }
}
