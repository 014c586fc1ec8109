//! Who sent it, end to end: kept headers, and gateways that speak for others.

use crate::support::{BOTH, Plan, TRACES, frame};
use base64::{Engine, engine::general_purpose::STANDARD};
use hesper_model::config::otlp::SenderTerms;
use hesper_otlp::{Signal, status::Code};
use hesper_telemetry::{
    net::{MeshPeer, Peer},
    origin::{BatchId, FORWARDED_HEADER, Forwarded, Origin, Sender},
};
use std::sync::Arc;

fn mesh(name: &str, gateway: bool) -> Peer {
    let sender = Sender { id: format!("id-{name}"), name: name.into() };
    Peer {
        mesh: Some(MeshPeer { sender, terms: Arc::new(SenderTerms { gateway, ..SenderTerms::default() }) }),
        ..Peer::default()
    }
}

fn said() -> Forwarded {
    let sender = Some(Sender { id: "id-shop".into(), name: "shop".into() });
    let origin = Origin {
        sender,
        received_ms: 3,
        metadata: vec![("x-tenant".into(), "a".into())],
        ..Origin::default()
    };
    Forwarded { origin, batch: BatchId { queue: [5; 16], number: 8 } }
}

#[tokio::test]
async fn a_gateway_speaks_for_others_over_both_protocols() {
    let server = Plan { peer: mesh("edge", true), ..Plan::of(BOTH) }.run().await;
    let header = STANDARD.encode(said().encode());
    let more = [(FORWARDED_HEADER, header.as_str())];
    assert_eq!(server.call(Signal::Logs.grpc_path(), &more, frame(0, b"")).await.grpc().code(), Code::Ok);
    assert_eq!(server.proto(TRACES, &more, "").await.status, 200);
    for received in server.sink.take() {
        let expected = Origin { forwarded_for: vec!["edge".into()], ..said().origin };
        assert_eq!((received.origin, received.id), (expected, Some(said().batch)));
        assert_eq!(received.peer.mesh.as_ref().expect("the mesh").sender.name, "edge");
    }
    let reply = server.proto(TRACES, &[(FORWARDED_HEADER, "AAAA")], "").await;
    assert_eq!((reply.status, server.sink.take().len()), (400, 0), "a gateway that makes no sense");
}

#[tokio::test]
async fn who_is_no_gateway_speaks_for_itself() {
    let header = STANDARD.encode(said().encode());
    let more = [(FORWARDED_HEADER, header.as_str())];
    for peer in [mesh("shop-2", false), Peer::default()] {
        let own = peer.mesh.as_ref().map(|mesh| mesh.sender.clone());
        let server =
            Plan { peer, ..Plan::of("{grpc: {include_metadata: true}, http: {include_metadata: true}}") }
                .run()
                .await;
        assert_eq!(server.proto(TRACES, &more, "").await.status, 200);
        assert_eq!(server.call(Signal::Logs.grpc_path(), &more, frame(0, b"")).await.grpc().code(), Code::Ok);
        for received in server.sink.take() {
            assert_eq!((&received.origin.sender, received.id), (&own, None));
            assert!(
                received.origin.forwarded_for.is_empty() && received.origin.metadata.is_empty(),
                "{received:?}"
            );
        }
    }
}

#[tokio::test]
async fn headers_are_kept_when_the_settings_say_so() {
    let server = Plan::of("{grpc: , http: {include_metadata: true}}").run().await;
    let more = [("X-Tenant", "a"), ("authorization", "Basic c2VjcmV0"), ("cookie", "s=1")];
    assert_eq!(server.proto(TRACES, &more, "").await.status, 200);
    assert_eq!(server.sink.only().origin.metadata, [("x-tenant".to_owned(), "a".into())]);
    assert_eq!(server.call(Signal::Logs.grpc_path(), &more, frame(0, b"")).await.grpc().code(), Code::Ok);
    assert_eq!(server.sink.only().origin.metadata, []);
}
