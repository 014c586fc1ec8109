//! Queues on disk.

use super::*;
use futures::FutureExt;
use hesper_queue::faulty::Call;

#[tokio::test]
async fn what_was_accepted_is_delivered_after_a_kill() {
    let world = World::new();
    let (down, other) = (Fake::new(Answer::Again(None)), Fake::new(Answer::Yes));
    let delivery = world.open([world.stored("otlp/a", &down), world.stored("otlp/b", &other)]).await;
    for number in 1..=20 {
        accept(&delivery, number, 2).await.expect("on disk");
    }
    other.has_got(20).await;
    down.is_asked(1).await;
    world.kill(delivery);

    let up = Fake::new(Answer::Yes);
    let delivery = world.open([world.stored("otlp/a", &up), world.stored("otlp/b", &other)]).await;
    up.has_got(20).await;
    assert_eq!(up.numbers(), (1..=20).collect::<Vec<_>>());
    assert_eq!(up.got.borrow()[0].origin, shop());
    until("the ledger", || sums(&delivery, "otlp/a").2 + sums(&delivery, "otlp/b").2 == 0).await;
    for name in ["otlp/a", "otlp/b"] {
        assert_eq!(sums(&delivery, name), (40, 40, 0, none()), "counted once");
    }
}

#[tokio::test]
async fn what_was_settled_and_written_down_does_not_come_again() {
    let world = World::new();
    let fake = Fake::new(Answer::Yes);
    let delivery = world.open([world.stored("a", &fake)]).await;
    for number in 1..=5 {
        accept(&delivery, number, 1).await.expect("on disk");
    }
    fake.has_got(5).await;
    assert_eq!(delivery.close(PATIENCE).await, Left::default());
    drop(delivery);
    let delivery = world.open([world.stored("a", &fake)]).await;
    accept(&delivery, 6, 1).await.expect("on disk");
    fake.has_got(6).await;
    assert_eq!(fake.numbers(), [1, 2, 3, 4, 5, 6]);
    until("the ledger", || sums(&delivery, "a") == (6, 6, 0, none())).await;
}

#[tokio::test]
async fn batches_keep_their_names_after_a_kill() {
    let world = World::new();
    let fake = Fake::new(Answer::Silence);
    let delivery = world.open([world.stored("a", &fake)]).await;
    accept(&delivery, 1, 1).await.expect("on disk");
    fake.is_asked(1).await;
    world.kill(delivery);
    fake.answers(Answer::Yes);
    let delivery = world.open([world.stored("a", &fake)]).await;
    let first = fake.has_got(1).await[0].id.expect("a name");
    world.kill(delivery);
    let delivery = world.open([world.stored("a", &fake)]).await;
    let again = fake.has_got(2).await[1].id.expect("a name");
    assert_eq!(first, again, "the kill came before it was written down that it arrived");
    accept(&delivery, 2, 1).await.expect("on disk");
    assert_ne!(fake.has_got(3).await[2].id.expect("a name").queue, first.queue, "another process");
}

#[tokio::test]
async fn a_gateways_batch_is_taken_once_whatever_happens_between() {
    let world = World::new();
    let fake = Fake::new(Answer::Yes);
    for round in 1..=4 {
        let delivery = world.open([world.stored("a", &fake)]).await;
        for number in 1..=round {
            let taken = delivery.accept(batch(number, 1), 1, shop(), Some(foreign(number))).await;
            taken.expect("taken, or seen");
        }
        assert_eq!(sums(&delivery, "a").0, round);
        if round.is_multiple_of(2) {
            world.kill(delivery);
        } else {
            world.cut(delivery, round);
        }
    }
}

#[tokio::test]
async fn who_gives_up_waiting_does_not_make_two_of_one() {
    let world = World::new();
    let fake = Fake::new(Answer::Yes);
    let delivery = world.open([world.stored("a", &fake)]).await;
    let disk = world.disk();
    let held = disk.hold_syncs();
    let first = delivery.accept(batch(1, 1), 1, shop(), Some(foreign(1)));
    assert!(first.now_or_never().is_none(), "the disk does not answer");
    let again = delivery.accept(batch(1, 1), 1, shop(), Some(foreign(1)));
    let ((), again) = tokio::join!(async { drop(held) }, again);
    again.expect("it is there");
    accept(&delivery, 2, 1).await.expect("on disk");
    assert_eq!(sums(&delivery, "a").0, 2);
}

#[tokio::test]
async fn a_full_log_refuses_and_takes_again() {
    let mut world = World::new();
    world.storage.max_bytes = 64 << 10;
    let fake = Fake::new(Answer::Again(None));
    let delivery = world.open([world.stored("a", &fake)]).await;
    let mut taken = 0;
    let refused = loop {
        match accept(&delivery, taken + 1, 50).await {
            Ok(()) => taken += 1,
            refused => break refused,
        }
    };
    assert!(taken > 10 && is_overloaded(refused), "{taken}");
    fake.answers(Answer::Yes);
    fake.has_got(usize::try_from(taken).expect("few")).await;
    patiently("room", async {
        while accept(&delivery, taken + 1, 50).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let huge = accept(&delivery, 0, 40_000).await;
    assert!(matches!(huge, Err(Refusal::TooLarge { .. })), "{huge:?}");
}

#[tokio::test]
async fn who_wants_to_wait_for_room_in_the_log_waits() {
    let mut world = World::new();
    world.storage.max_bytes = 64 << 10;
    let fake = Fake::new(Answer::Again(None));
    let waits = queue(|queue| queue.block_on_overflow = true);
    let delivery = world.open([Destination { queue: waits, ..world.stored("a", &fake) }]).await;
    let accepts = futures::future::join_all((0..200).map(|number| accept(&delivery, number, 50)));
    let (taken, ()) = tokio::join!(accepts, async {
        fake.is_asked(20).await;
        fake.answers(Answer::Yes);
    });
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    fake.has_got(200).await;
}

#[tokio::test]
async fn what_the_log_drops_is_in_the_ledger_even_after_a_kill() {
    let mut world = World::new();
    (world.storage.max_bytes, world.storage.when_full) = (64 << 10, WhenFull::DropOldest);
    let (down, up) = (Fake::new(Answer::Silence), Fake::new(Answer::Yes));
    let delivery = world.open([world.stored("down", &down), world.stored("up", &up)]).await;
    for number in 0..200 {
        accept(&delivery, number, 50).await.expect("always");
    }
    let before = sums(&delivery, "down");
    assert_eq!((before.0, before.1), (10_000, 0));
    assert!(before.3[&DropReason::Cap] > 1000, "{before:?}");
    world.kill(delivery);
    let delivery = world.open([world.stored("down", &down), world.stored("up", &up)]).await;
    assert_eq!(sums(&delivery, "down"), before, "exactly");
    down.answers(Answer::Yes);
    world.kill(delivery);
    let delivery = world.open([world.stored("down", &down), world.stored("up", &up)]).await;
    until("the ledger", || sums(&delivery, "down").2 == 0).await;
    let after = sums(&delivery, "down");
    assert_eq!((after.0, after.1, after.3), (10_000, before.2, before.3));
}

#[tokio::test]
async fn without_its_ledger_a_log_goes_on() {
    let world = World::new();
    let fake = Fake::new(Answer::Again(None));
    let delivery = world.open([world.stored("a", &fake)]).await;
    for number in 1..=6 {
        accept(&delivery, number, 1).await.expect("on disk");
    }
    delivery.close(Duration::from_millis(1)).await;
    drop(delivery);
    world.disk().put("ledger", b"HESPERL1 nonsense");
    fake.answers(Answer::Yes);
    let delivery = world.open([world.stored("a", &fake)]).await;
    fake.has_got(6).await;
    until("the ledger", || sums(&delivery, "a") == (6, 6, 0, none())).await;
}

#[tokio::test]
async fn a_log_that_was_removed_begins_anew_under_another_name() {
    let world = World::new();
    let fake = Fake::new(Answer::Yes);
    let delivery = world.open([world.stored("a", &fake)]).await;
    accept(&delivery, 1, 1).await.expect("on disk");
    let first = fake.has_got(1).await[0].id.expect("a name");
    delivery.close(PATIENCE).await;
    drop(delivery);
    let disk = world.disk();
    for name in disk.list().expect("list") {
        if name.ends_with(".seg") || name.ends_with(".cursor") {
            disk.remove(&name).expect("removed");
        }
    }
    let delivery = world.open([world.stored("a", &fake)]).await;
    accept(&delivery, 2, 1).await.expect("on disk");
    let second = fake.has_got(2).await[1].id.expect("a name");
    assert_ne!(first.queue, second.queue, "the next gateway would take it for the first");
    until("the ledger", || sums(&delivery, "a") == (2, 2, 0, none())).await;
}

#[tokio::test]
async fn damage_costs_the_records_that_it_touches_and_is_counted() {
    let world = World::new();
    let fake = Fake::new(Answer::Again(None));
    let delivery = world.open([world.stored("a", &fake)]).await;
    for number in 1..=6 {
        accept(&delivery, number, 3).await.expect("on disk");
    }
    delivery.close(Duration::from_millis(1)).await;
    drop(delivery);
    let disk = world.disk();
    let name = disk.list().expect("list").into_iter().find(|name| name.ends_with(".seg")).expect("a segment");
    let mut bytes = disk.contents(&name).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.put(&name, &bytes);
    fake.answers(Answer::Yes);
    let delivery = world.open([world.stored("a", &fake)]).await;
    fake.has_got(5).await;
    until("the ledger", || sums(&delivery, "a").2 == 0).await;
    assert_eq!(sums(&delivery, "a"), (18, 15, 0, [(DropReason::Damaged, 3)].into()));
    assert_eq!(delivery.damaged_records()["a"], 1);
}

#[tokio::test]
async fn a_disk_that_refuses_costs_the_batch_and_nothing_else() {
    let world = World::new();
    let fake = Fake::new(Answer::Yes);
    let delivery = world.open([world.stored("a", &fake)]).await;
    accept(&delivery, 1, 1).await.expect("on disk");
    fake.has_got(1).await;
    world.disk().fail(Call::Write, 1);
    let mut taken = 1;
    // The book may be what meets the fault.
    for number in 2..=10 {
        match accept(&delivery, number, 1).await {
            Ok(()) => taken += 1,
            refused => assert!(is_overloaded(refused)),
        }
    }
    assert!(taken >= 9);
    fake.has_got(taken).await;
    until("the ledger", || sums(&delivery, "a") == (taken as u64, taken as u64, 0, none())).await;
}

#[tokio::test]
async fn at_the_end_the_disk_keeps_what_is_tried_again_without_waiting_for_it() {
    let world = World::new();
    let (down, up) = (Fake::new(Answer::Again(Some(PATIENCE))), Fake::new(Answer::Yes));
    let delivery = world.open([world.stored("down", &down), world.stored("up", &up)]).await;
    for number in 1..=30 {
        accept(&delivery, number, 2).await.expect("on disk");
    }
    down.is_asked(10).await;
    up.has_got(30).await;
    let left = patiently("the end", delivery.close(10 * PATIENCE)).await;
    assert_eq!(left, Left { lost_items: 0, kept_batches: 30 });
    assert_eq!(sums(&delivery, "down"), (60, 0, 60, none()), "still to be seen");
    assert_eq!(sums(&delivery, "up"), (60, 60, 0, none()));
}
