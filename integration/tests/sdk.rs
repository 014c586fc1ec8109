//! The SDK against a real controller and router: dial, bind, and what happens when any of them goes.

use hesper_integration::{Stack, wait_until};
use hesper_sdk::{
    BindError, BindOptions, Context, ContextError, DialErrorKind, DialOptions, Listener, NotReady, Stream,
    StreamError,
};
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Stack::PATIENCE;

/// Two identities, a service, and the policies between them.
struct World {
    stack: Stack,
    runtime: Runtime,
    host: String,
    client: String,
}

impl World {
    fn new(stack: Stack) -> Self {
        let (host, client) = (stack.enroll("host", &["hosts"]), stack.enroll("client", &["clients"]));
        stack.cli(["create", "service", "echo", "-a", "echoes"]).ok();
        let world = Self { stack, runtime: Runtime::new().expect("a runtime"), host, client };
        world.policy("binds", "Bind", "#hosts");
        world.policy("dials", "Dial", "#clients");
        world
    }

    fn policy(&self, name: &str, kind: &str, identities: &str) {
        let arguments = [
            "create",
            "service-policy",
            name,
            kind,
            "--service-roles",
            "#echoes",
            "--identity-roles",
            identities,
        ];
        self.stack.cli(arguments).ok();
    }

    fn context(&self, identity: &str) -> Context {
        self.runtime.block_on(async {
            let ctx = Context::from_identity_file(Path::new(identity)).expect("a context");
            ctx.ready(PATIENCE).await.expect("ready");
            ctx
        })
    }
}

/// Serves echoes until the listener is closed.
fn echo(mut listener: Listener) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(stream) = incoming.into_stream().await else { return };
                let (mut send, mut recv) = stream.into_parts();
                if tokio::io::copy(&mut recv, &mut send).await.is_ok() {
                    let _ = send.shutdown().await;
                }
            });
        }
    })
}

async fn say(stream: &mut Stream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text).await?;
    let mut back = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("an echo in time")?;
    assert_eq!(back, text);
    Ok(())
}

#[test]
fn a_dial_arrives_or_says_why_not() {
    let world = World::new(Stack::start());
    let (host, client) = (world.context(&world.host), world.context(&world.client));
    world.runtime.block_on(async {
        let nobody = client.dial("echo").await.expect_err("nobody hosts it");
        assert_eq!(nobody.kind(), DialErrorKind::NoTerminators, "{nobody}");
        assert!(nobody.to_string().contains("echo"), "{nobody}");
        let unknown = client.dial("nonsense").await.expect_err("no such service");
        assert_eq!(unknown.kind(), DialErrorKind::Denied, "{unknown}");
        let forbidden = host.dial("echo").await.expect_err("a host may not dial");
        assert_eq!(forbidden.kind(), DialErrorKind::Denied);
        assert_eq!(
            forbidden.to_string().replace("'echo'", "?").replace("host", "client"),
            unknown.to_string().replace("'nonsense'", "?")
        );
        let denied = client.bind("echo").await.expect_err("a client may not bind");
        assert!(matches!(denied, BindError::Denied { .. }), "{denied}");

        let options = BindOptions { instance: Some("one".into()), ..BindOptions::default() };
        let mut listener = host.bind_with("echo", options).await.expect("bound");
        let accept = async {
            let incoming = listener.accept().await.expect("a dial");
            assert_eq!((incoming.service(), incoming.app_data()), ("echo", r#"{"dst_port":"80"}"#));
            let mut stream = incoming.into_stream().await.expect("a stream");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("the end of one direction");
            stream.write_all(text.to_uppercase().as_bytes()).await.expect("the other is open");
            stream.shutdown().await.expect("and ends");
        };
        let dial = async {
            let options = DialOptions { app_data: r#"{"dst_port":"80"}"#.into(), ..DialOptions::default() };
            let mut stream = client.dial_with("one@echo", options).await.expect("a stream");
            stream.write_all(b"half-close").await.expect("written");
            stream.shutdown().await.expect("finished");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("the answer");
            assert_eq!(text, "HALF-CLOSE");
        };
        tokio::join!(accept, dial);
        let other = client.dial("two@echo").await.expect_err("no such instance");
        assert_eq!(other.kind(), DialErrorKind::NoTerminators, "{other}");

        let refuse = async { listener.accept().await.expect("a dial").refuse("the target is down").await };
        let (refused, ()) = tokio::join!(client.dial("echo"), refuse);
        let refused = refused.expect_err("refused");
        assert_eq!(
            (refused.kind(), refused.to_string().as_str()),
            (DialErrorKind::Refused, "the target is down")
        );

        let options = DialOptions { timeout: Duration::from_millis(300), ..DialOptions::default() };
        let slow = client.dial_with("echo", options).await.expect_err("nobody answers");
        assert_eq!(slow.kind(), DialErrorKind::Timeout, "{slow}");

        listener.close().await;
        let gone = client.dial("echo").await.expect_err("unbound");
        assert_eq!(gone.kind(), DialErrorKind::NoTerminators, "{gone}");
        client.shutdown().await;
        assert_eq!(client.dial("echo").await.expect_err("shut down").kind(), DialErrorKind::Shutdown);
    });
}

#[test]
fn the_view_follows_services_hosts_and_routers() {
    let world = World::new(Stack::start());
    let (host, client) = (world.context(&world.host), world.context(&world.client));
    world.runtime.block_on(async {
        let mut state = client.state();
        let view = state.borrow_and_update().clone();
        assert!(view.connected && view.attached.len() == 1, "{view:?}");
        assert_eq!(view.identity_name, "client");
        let service = view.service("echo").expect("may dial it").clone();
        assert!(service.may_dial && !service.may_bind && service.hosts.is_empty(), "{service:?}");
        let listener = host.bind("echo").await.expect("bound");
        let hosted = state.wait_for(|v| v.service("echo").is_some_and(|s| s.hosts.len() == 1));
        assert_eq!(
            timeout(PATIENCE, hosted).await.expect("in time").expect("alive").services[0].hosts[0]
                .identity_name,
            "host"
        );
        drop(listener);
        let left = state.wait_for(|v| v.service("echo").is_some_and(|s| s.hosts.is_empty()));
        timeout(PATIENCE, left).await.expect("in time").expect("alive");
    });
    world.stack.cli(["delete", "service-policy", "dials"]).ok();
    wait_until("the service is gone from the view", PATIENCE, || client.state().borrow().services.is_empty());
}

#[test]
fn streams_outlive_controller_and_router_and_everything_comes_back() {
    let mut world = World::new(Stack::separate());
    let (host, client) = (world.context(&world.host), world.context(&world.client));
    let runtime = Runtime::new().expect("a runtime");
    let mut stream = runtime.block_on(async {
        echo(host.bind("echo").await.expect("bound"));
        let mut stream = client.dial("echo").await.expect("a stream");
        say(&mut stream, b"before").await.expect("an echo");
        stream
    });

    world.stack.kill_controller();
    wait_until("the client knows", PATIENCE, || !client.state().borrow().connected);
    runtime.block_on(async {
        say(&mut stream, b"without controller").await.expect("an echo");
        let mut second = client.dial("echo").await.expect("a stream by the cached grant");
        say(&mut second, b"cached").await.expect("an echo");
        let never = client.dial("other").await.expect_err("never granted");
        assert_eq!(never.kind(), DialErrorKind::Unavailable, "{never}");
    });
    world.stack.start_controller();
    wait_until("the client is connected again", PATIENCE, || client.state().borrow().connected);

    world.stack.kill_router();
    wait_until("the client is detached", PATIENCE, || client.state().borrow().attached.is_empty());
    world.stack.start_router();
    runtime.block_on(async {
        say(&mut stream, b"after the router's return").await.expect("an echo");
        // The controller has forgotten nothing, or was told again.
        let mut fresh = client.dial("echo").await.expect("a fresh stream");
        say(&mut fresh, b"fresh").await.expect("an echo");
    });
}

#[test]
fn a_policy_taken_away_ends_its_streams_and_nobody_elses() {
    let world = World::new(Stack::start());
    let other = world.stack.enroll("other", &["others"]);
    world.policy("dials too", "Dial", "#others");
    let (host, client, other) =
        (world.context(&world.host), world.context(&world.client), world.context(&other));
    let (mut ended, mut kept) = world.runtime.block_on(async {
        echo(host.bind("echo").await.expect("bound"));
        let mut streams =
            (client.dial("echo").await.expect("a stream"), other.dial("echo").await.expect("a stream"));
        say(&mut streams.0, b"first").await.expect("an echo");
        say(&mut streams.1, b"second").await.expect("an echo");
        streams
    });
    world.stack.cli(["delete", "service-policy", "dials"]).ok();
    world.runtime.block_on(async {
        let end = timeout(PATIENCE, ended.read_u8()).await.expect("ends in time").expect_err("revoked");
        let reason = end.get_ref().and_then(|e| e.downcast_ref::<StreamError>());
        assert!(matches!(reason, Some(StreamError::Revoked)), "{end:?}");
        say(&mut kept, b"still here").await.expect("an echo");
        let denied = client.dial("echo").await.expect_err("no policy");
        assert_eq!(denied.kind(), DialErrorKind::Denied, "{denied}");
    });
    world.policy("dials again", "Dial", "#clients");
    world.runtime.block_on(async {
        let mut again = client.dial("echo").await.expect("at once");
        say(&mut again, b"again").await.expect("an echo");
    });
    // The host loses the right, and gets it back: it binds again by itself.
    world.stack.cli(["delete", "service-policy", "binds"]).ok();
    world.runtime.block_on(async {
        let end = timeout(PATIENCE, kept.read_u8()).await.expect("ends in time").expect_err("revoked");
        assert_eq!(end.kind(), io::ErrorKind::PermissionDenied, "{end}");
    });
    world.policy("binds again", "Bind", "#hosts");
    wait_until("the service is hosted again", PATIENCE, || {
        client.state().borrow().service("echo").is_some_and(|s| s.hosts.len() == 1)
    });
    world.runtime.block_on(async {
        let mut again = client.dial("echo").await.expect("hosted again");
        say(&mut again, b"and again").await.expect("an echo");
    });
}

#[test]
fn when_one_host_dies_the_next_dial_finds_another() {
    let world = World::new(Stack::start());
    let client = world.context(&world.client);
    let spare = world.context(&world.host);
    // A host in a runtime of its own dies with it: no goodbye to anyone.
    let doomed = Runtime::new().expect("a runtime");
    let identity = world.host.clone();
    doomed.block_on(async {
        let ctx = Context::from_identity_file(Path::new(&identity)).expect("a context");
        ctx.ready(PATIENCE).await.expect("ready");
        let options =
            BindOptions { instance: Some("doomed".into()), cost: Some(0), ..BindOptions::default() };
        echo(ctx.bind_with("echo", options).await.expect("bound"));
        std::mem::forget(ctx);
    });
    let mut stream = world.runtime.block_on(async {
        let options =
            BindOptions { instance: Some("spare".into()), cost: Some(500), ..BindOptions::default() };
        echo(spare.bind_with("echo", options).await.expect("bound"));
        let mut stream = client.dial("echo").await.expect("a stream");
        say(&mut stream, b"to the cheaper").await.expect("an echo");
        stream
    });
    doomed.shutdown_background();
    world.runtime.block_on(async {
        let mut next = client.dial("echo").await.expect("the spare one");
        say(&mut next, b"to the spare").await.expect("an echo");
        let dead = timeout(PATIENCE, stream.read_u8()).await.expect("noticed in time");
        assert!(dead.is_err(), "the peer of this stream is gone");
    });
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let stack = Stack::separate();
    let runtime = Runtime::new().expect("a runtime");
    let identity = stack.enroll("lonely", &[]);
    stack.cli(["delete", "edge-router-policy", "all"]).ok();
    let outside = Context::from_identity_file(Path::new(&identity)).expect_err("no runtime");
    assert!(matches!(outside, ContextError::NoRuntime), "{outside}");
    runtime.block_on(async {
        let missing = Context::from_identity_file(Path::new("/nowhere/node.json")).expect_err("no file");
        assert!(matches!(missing, ContextError::Identity(_)), "{missing}");
        let router = stack.path("router/router.json");
        let router = Context::from_identity_file(Path::new(&router)).expect_err("a router's identity");
        assert!(matches!(router, ContextError::NotAnIdentity(_)), "{router}");
        let ctx = Context::from_identity_file(Path::new(&identity)).expect("a context");
        let error = ctx.ready(Duration::from_secs(3)).await.expect_err("no router");
        assert!(matches!(&error, NotReady::NoRouters(name) if name == "lonely"), "{error}");
    });
}
