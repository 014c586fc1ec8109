//! Controller and router come and go.

use crate::world::{World, issue, within};
use hesper_pki::{identity_file::IdentityFile, spiffe::SpiffeRole};
use hesper_proto::overlay::from_router;
use hesper_router::{Router, RunOptions};

#[tokio::test]
async fn without_its_controller_a_router_goes_on_and_even_starts_again() {
    let mut world = World::new().await;
    let mut a = world.attached("a", b"dialer-a").await;
    world.controller = None;
    world.wait_for("the loss", "hesper_router_controller_connected", |n| n == 0).await;
    let mut b = world.attached("b", b"binder-b").await;
    let pass = world.sign(&world.pass("p", &a, &b));
    assert!(a.present(&pass).await.peer_attached);
    a.send(&b, "still here").await;
    assert_eq!(b.receive().await, "still here");

    world.router = None;
    world.start_router().await;
    let mut b = world.attached("b", b"binder-b").await;
    let mut a = world.attached("a", b"dialer-a").await;
    let pass = world.sign(&world.pass("p", &a, &b));
    assert!(a.present(&pass).await.error.is_empty());
    a.send(&b, "again").await;
    assert_eq!(b.receive().await, "again");

    world.start_controller();
    let both = [b"binder-b".to_vec(), b"dialer-a".to_vec()];
    within("the reunion", world.controller().wait_for_status(|s| s.attached == both)).await;
}

#[tokio::test]
async fn a_router_that_stops_tells_everybody_and_takes_nobody_new() {
    let mut world = World::new().await;
    let mut node = world.attached("one", b"node-one").await;
    let router = world.router.take().unwrap();
    let stopping = tokio::spawn(router.shutdown());
    assert!(matches!(node.attach_mut().hear().await, Ok(from_router::Message::Draining(_))));
    world.controller().wait_for_status(|s| s.draining).await;
    let late = world.node("two", b"node-two");
    tokio::select! {
        result = late.connect(late.knock()) => assert!(result.is_err(), "attached to a router that stops"),
        () = async {
            node.attach_mut().connection.close(0u8.into(), b"gone elsewhere");
            assert_eq!(within("the stop", stopping).await.unwrap(), 0, "nobody was waited for in vain");
        } => {}
    }
}

#[tokio::test]
async fn what_keeps_a_router_from_starting_is_named() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let options = RunOptions::new("127.0.0.1:0".parse().unwrap());
    let error = Router::start(home.path(), options.clone()).await.unwrap_err().to_string();
    assert!(error.contains("enroll it first"), "{error}");

    let node = issue(&world.ca, SpiffeRole::Identity, "node");
    let file =
        IdentityFile::new(&["https://127.0.0.1:1".into()], &node.chain_pem(), &node.key, &world.ca.ca_pem());
    file.write_new(&home.path().join("router.json")).unwrap();
    let error = Router::start(home.path(), options).await.unwrap_err().to_string();
    assert!(error.contains("not the identity of a router (it names identity)"), "{error}");

    let taken = RunOptions::new(world.addr);
    let error = Router::start(world.home.path(), taken).await.unwrap_err().to_string();
    assert_eq!(error, format!("cannot listen on UDP {}", world.addr));
}
