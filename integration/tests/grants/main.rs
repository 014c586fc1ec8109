//! No stream without a grant that is fresh, whole, and for exactly this dialer, key, binder, service and terminator: ten thousand grants
//! that are not are refused by a real binder, and every good one in between is accepted.

mod forge;
mod variants;
mod world;

use hesper_integration::{
    Stack,
    hostile::{Ask, open, renew},
    wait_until,
};
use hesper_overlay::{
    peer::{OpenError, Peer},
    stream::StreamError,
};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};
use variants::{Material, Over, Variant};
use world::World;

const VARIANTS: usize = 10_000;
/// Variants under way at once; a good grant after each such lot.
const LOT: usize = 250;
const PATIENCE: Duration = Stack::PATIENCE;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs()
}

/// A stream opens and works.
async fn works(peer: &Peer, ask: &Ask) {
    let mut stream = open(peer, ask).await.expect("a good grant is accepted");
    stream.write_all(b"good").await.expect("sent");
    let mut back = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").expect("an echo");
    assert_eq!(&back, b"good");
}

#[test]
fn none_of_ten_thousand_grants_that_are_not_for_this_opens_a_stream() {
    let world = World::start();
    let (mut material, [own, elsewhere, others]) = (world.material(), world.peers());
    let good = [
        (&own, &material.own.clone()),
        (&elsewhere, &material.elsewhere.clone()),
        (&others, &material.others.clone()),
    ]
    .map(|(peer, ask)| (peer.clone(), ask.clone()));
    // What the forge makes from honest claims is as good as the controller's: refusals below are for what was altered.
    let mut renamed = material.claims.clone();
    renamed.insert("jti".into(), "another".into());
    let forged = material.signed(&renamed);
    let mut opened = 0;
    world.runtime.block_on(async {
        works(&own, &forged).await;
        opened += 1;
        for lot in 0..VARIANTS.div_ceil(LOT) {
            let mut asked = JoinSet::new();
            for number in lot * LOT..VARIANTS.min((lot + 1) * LOT) {
                let Variant { what, over, ask } = material.variant(number);
                let honest = [&material.own, &material.second].contains(&&ask) && over == Over::Own;
                assert!(!honest, "{what}: nothing was altered");
                let peer = match over {
                    Over::Own => own.clone(),
                    Over::OtherBinder => elsewhere.clone(),
                    Over::OtherDialer => others.clone(),
                };
                asked.spawn(async move {
                    match open(&peer, &ask).await {
                        Err(OpenError::Refused { code, .. }) => code,
                        other => panic!("{what}: {other:?}"),
                    }
                });
            }
            for code in asked.join_all().await {
                assert!(["INVALID_GRANT", "GRANT_EXPIRED", "INVALID_TERMINATOR"].contains(&&*code), "{code}");
            }
            for (peer, ask) in &good {
                works(peer, ask).await;
                opened += 1;
            }
        }
    });
    wait_until("every good stream has reached the target", PATIENCE, || {
        world.accepted.load(Relaxed) >= opened
    });
    assert_eq!(world.accepted.load(Relaxed), opened, "nothing but the good ones reached the target");
    wait_until("each is counted", PATIENCE, || world.refused("dial") >= VARIANTS);
    assert_eq!(world.refused("dial"), VARIANTS);
}

#[test]
fn a_renewal_that_is_not_for_this_stream_prolongs_nothing() {
    let world = World::start();
    let (mut material, [own, elsewhere, others]) = (world.material(), world.peers());
    let short = |material: &Material, seconds: u64| {
        let mut claims = material.claims.clone();
        claims.insert("exp".into(), (now() + seconds).into());
        material.signed(&claims)
    };
    world.runtime.block_on(async {
        // Long enough to open all three, short enough to wait for.
        let brief = short(&material, 6);
        let mut ends = open(&own, &brief).await.expect("a stream");
        let mut of_another = open(&others, &material.others).await.expect("a stream");
        for number in 0..500 {
            let Variant { over, ask, .. } = material.variant(number);
            match over {
                Over::Own => renew(&own, &ask),
                Over::OtherBinder => renew(&elsewhere, &ask),
                Over::OtherDialer => renew(&others, &ask),
            }
        }
        // Another terminator's: a good grant, for other streams.
        renew(&own, &material.second);
        let end = timeout(PATIENCE, ends.read_u8()).await.expect("it ends").expect_err("by its grant");
        let reason = end.get_ref().and_then(|e| e.downcast_ref::<StreamError>());
        assert!(matches!(reason, Some(StreamError::Expired)), "{end:?}");
        wait_until("every bad renewal was seen", PATIENCE, || world.refused("renewal") == 500);
        of_another.write_all(b"x").await.expect("open");
        assert_eq!(timeout(PATIENCE, of_another.read_u8()).await.expect("in time").expect("an echo"), b'x');
        // The same with a renewal that is good.
        let mut goes_on = open(&own, &short(&material, 3)).await.expect("a stream");
        renew(&own, &material.own);
        let waited = timeout(Duration::from_secs(5), goes_on.read_u8()).await;
        assert!(waited.is_err(), "it outlived its first grant: {waited:?}");
        goes_on.write_all(b"y").await.expect("open");
        assert_eq!(timeout(PATIENCE, goes_on.read_u8()).await.expect("in time").expect("an echo"), b'y');
    });
}
