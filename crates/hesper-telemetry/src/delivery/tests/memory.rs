//! Queues in memory, and none.

use super::*;

#[tokio::test]
async fn check_57_one_slow_destination_never_blocks_another() {
    let (slow, fast) = (Fake::new(Answer::Silence), Fake::new(Answer::Yes));
    let delivery = Delivery::open(plan([destination("slow", &slow), destination("fast", &fast)])).await;
    let delivery = delivery.expect("opened");
    for number in 1..=100 {
        accept(&delivery, number, 2).await.expect("taken");
    }
    fast.has_got(100).await;
    until("the ledger", || sums(&delivery, "fast").2 == 0).await;
    assert_eq!(sums(&delivery, "fast"), (200, 200, 0, none()));
    assert_eq!(sums(&delivery, "slow"), (200, 0, 200, none()));
    let stats = stats_of(&delivery, "slow");
    assert_eq!((stats.queue, stats.queue_size, stats.queue_capacity), (QueueKind::Memory, 100, 1000));
    assert_eq!(stats.in_flight, 10, "num_consumers");
    assert_eq!(stats_of(&delivery, "fast").sent[2], (Signal::Logs, 200));
}

#[tokio::test]
async fn a_full_queue_refuses_for_all_and_leaves_nothing() {
    let (slow, fast) = (Fake::new(Answer::Silence), Fake::new(Answer::Yes));
    let small = Destination { queue: queue(|queue| queue.queue_size = 3), ..destination("slow", &slow) };
    let delivery = Delivery::open(plan([destination("fast", &fast), small])).await.expect("opened");
    for number in 1..=3 {
        accept(&delivery, number, 1).await.expect("taken");
    }
    assert!(is_overloaded(accept(&delivery, 4, 1).await));
    fast.has_got(3).await;
    assert_eq!(sums(&delivery, "fast").0, 3, "nobody has the fourth");
    assert_eq!(stats_of(&delivery, "slow").enqueue_failed[2], (Signal::Logs, 1));
}

#[tokio::test]
async fn who_wants_to_wait_for_room_waits() {
    let slow = Fake::new(Answer::Again(None));
    let waits = |queue: &mut SendingQueue| (queue.queue_size, queue.block_on_overflow) = (1, true);
    let delivery = Delivery::open(plan([Destination { queue: queue(waits), ..destination("slow", &slow) }]));
    let delivery = delivery.await.expect("opened");
    accept(&delivery, 1, 1).await.expect("taken");
    let second = accept(&delivery, 2, 1);
    let (second, ()) = tokio::join!(second, async {
        slow.is_asked(3).await;
        slow.answers(Answer::Yes);
    });
    second.expect("taken in the end");
    slow.has_got(2).await;
    assert_eq!(slow.numbers(), [1, 2]);
}

#[tokio::test]
async fn who_wants_the_result_gets_it() {
    let fake = Fake::new(Answer::Yes);
    let waits = queue(|queue| queue.wait_for_result = true);
    let delivery = Delivery::open(plan([Destination { queue: waits, ..destination("a", &fake) }])).await;
    let delivery = delivery.expect("opened");
    accept(&delivery, 1, 1).await.expect("taken");
    assert_eq!(fake.numbers(), [1], "it has it already");
    fake.answers(Answer::Never);
    assert!(matches!(accept(&delivery, 2, 1).await, Err(Refusal::Internal(reason)) if reason == "told so"));
}

#[tokio::test]
async fn without_a_queue_the_sender_gets_the_destinations_answer() {
    let (direct, queued) = (Fake::new(Answer::Yes), Fake::new(Answer::Yes));
    let no_queue = Destination {
        queue: None,
        retry: Retry { enabled: false, ..quick() },
        ..destination("direct", &direct)
    };
    let delivery = Delivery::open(plan([no_queue, destination("queued", &queued)])).await.expect("opened");
    accept(&delivery, 1, 2).await.expect("taken");
    assert_eq!(direct.numbers(), [1]);
    direct.answers(Answer::Again(None));
    assert!(is_overloaded(accept(&delivery, 2, 2).await));
    direct.answers(Answer::Never);
    assert!(matches!(accept(&delivery, 3, 2).await, Err(Refusal::Internal(_))));
    direct.answers(Answer::Partly(1));
    accept(&delivery, 4, 2).await.expect("taken");
    queued.has_got(2).await;
    assert_eq!(queued.numbers(), [1, 4], "what is refused goes nowhere");
    assert_eq!(sums(&delivery, "direct"), (4, 3, 0, [(DropReason::Rejected, 1)].into()));
}

#[tokio::test]
async fn every_end_is_in_the_ledger() {
    let fake = Fake::new(Answer::Never);
    let expires = Retry { max_elapsed_time: Some(Duration::from_millis(20)), ..quick() };
    let delivery = Delivery::open(plan([Destination { retry: expires, ..destination("a", &fake) }])).await;
    let delivery = delivery.expect("opened");
    let mut dropped = none();
    for (number, answer, reason, items) in [
        (1, Answer::Never, DropReason::Rejected, 10),
        (2, Answer::Partly(4), DropReason::Rejected, 14),
        (3, Answer::Partly(-3), DropReason::Rejected, 14),
        (4, Answer::Partly(99), DropReason::Rejected, 24),
        (5, Answer::Again(None), DropReason::Expired, 10),
    ] {
        fake.answers(answer);
        accept(&delivery, number, 10).await.expect("taken");
        until("the end", || sums(&delivery, "a").2 == 0).await;
        dropped.insert(reason, items);
        assert_eq!(sums(&delivery, "a").3, dropped, "batch {number}");
    }
    assert_eq!(sums(&delivery, "a"), (50, 16, 0, dropped));
    assert_eq!(stats_of(&delivery, "a").send_failed[2], (Signal::Logs, 34));
}

#[tokio::test]
async fn a_panic_of_an_exporter_loses_nothing() {
    let fake = Fake::new(Answer::Panic);
    let delivery = Delivery::open(plan([destination("a", &fake)])).await.expect("opened");
    accept(&delivery, 1, 1).await.expect("taken");
    fake.is_asked(1).await;
    fake.answers(Answer::Yes);
    fake.has_got(1).await;
    until("the ledger", || sums(&delivery, "a") == (1, 1, 0, none())).await;
}

#[tokio::test]
async fn at_the_end_memory_is_delivered_or_told_as_lost() {
    let (good, bad) = (Fake::new(Answer::Yes), Fake::new(Answer::Again(None)));
    let delivery = Delivery::open(plan([destination("good", &good), destination("bad", &bad)])).await;
    let delivery = delivery.expect("opened");
    for number in 1..=50 {
        accept(&delivery, number, 3).await.expect("taken");
    }
    let left = delivery.close(Duration::from_millis(300)).await;
    assert_eq!(left, Left { lost_items: 150, kept_batches: 0 });
    assert_eq!(good.numbers().len(), 50);
    assert_eq!(sums(&delivery, "bad"), (150, 0, 0, [(DropReason::Shutdown, 150)].into()));
    assert_eq!(sums(&delivery, "good"), (150, 150, 0, none()));
}

#[tokio::test]
async fn a_gateways_batch_is_taken_once() {
    let fake = Fake::new(Answer::Yes);
    let delivery = Delivery::open(plan([destination("a", &fake)])).await.expect("opened");
    for _ in 0..3 {
        delivery.accept(batch(1, 1), 1, shop(), Some(foreign(7))).await.expect("taken");
    }
    delivery.accept(batch(2, 1), 1, shop(), Some(foreign(8))).await.expect("taken");
    fake.has_got(2).await;
    assert_eq!(sums(&delivery, "a").0, 2);
}
