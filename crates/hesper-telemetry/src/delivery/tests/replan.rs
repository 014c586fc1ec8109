//! Destinations that come, change and go.

use super::*;

#[tokio::test]
async fn what_waits_in_memory_goes_to_the_new_exporter() {
    let (old, new) = (Fake::new(Answer::Again(None)), Fake::new(Answer::Yes));
    let slow = Retry { initial_interval: PATIENCE, max_interval: PATIENCE, ..Retry::default() };
    let before = Destination { retry: slow, ..destination("a", &old) };
    let delivery = Delivery::open(plan([before])).await.expect("opened");
    for number in 1..=30 {
        accept(&delivery, number, 1).await.expect("taken");
    }
    old.is_asked(10).await;
    delivery.replan(plan([destination("a", &new)])).await.expect("changed");
    let mut numbers: Vec<_> = new.has_got(30).await.iter().map(number_of).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=30).collect::<Vec<_>>(), "at once, whatever the old one waits for");
    until("the ledger", || sums(&delivery, "a") == (30, 30, 0, none())).await;
}

#[tokio::test]
async fn destinations_come_and_go() {
    let world = World::new();
    let (a, b, c) = (Fake::new(Answer::Yes), Fake::new(Answer::Again(None)), Fake::new(Answer::Yes));
    let delivery = world.open([destination("a", &a), world.stored("b", &b)]).await;
    accept(&delivery, 1, 1).await.expect("taken");
    a.has_got(1).await;
    b.is_asked(1).await;
    delivery.replan(plan([world.stored("c", &c), destination("b", &b)])).await.expect("changed");
    assert_eq!(delivery.unserved(), ["b"], "its queue on disk");
    b.answers(Answer::Yes);
    accept(&delivery, 2, 1).await.expect("taken");
    c.has_got(1).await;
    assert_eq!((c.numbers(), a.numbers()), (vec![2], vec![1]));
    b.has_got(1).await;
    assert_eq!(b.numbers(), [2], "from memory");
    assert_eq!(sums(&delivery, "a"), (1, 1, 0, none()), "its numbers stay");

    delivery.replan(plan([world.stored("c", &c), world.stored("b", &b)])).await.expect("changed");
    b.has_got(3).await;
    assert_eq!(b.numbers(), [2, 1, 2], "what the disk has kept for it");
    assert_eq!(delivery.unserved(), [""; 0]);
    assert!(delivery.forget("b").await.is_err(), "it is served");
    delivery.replan(plan([world.stored("c", &c)])).await.expect("changed");
    assert!(delivery.forget("b").await.expect("forgotten") && !delivery.forget("b").await.expect("gone"));
    assert_eq!(delivery.unserved(), [""; 0]);
}

#[tokio::test]
async fn what_a_removed_destination_has_in_memory_is_counted() {
    let (a, b) = (Fake::new(Answer::Silence), Fake::new(Answer::Yes));
    let delivery = Delivery::open(plan([destination("a", &a)])).await.expect("opened");
    accept(&delivery, 1, 7).await.expect("taken");
    a.is_asked(1).await;
    delivery.replan(plan([destination("b", &b)])).await.expect("changed");
    assert_eq!(sums(&delivery, "a"), (7, 0, 0, [(DropReason::Shutdown, 7)].into()));
    accept(&delivery, 2, 7).await.expect("taken");
    b.has_got(1).await;
    delivery.replan(plan([destination("a", &b)])).await.expect("changed");
    accept(&delivery, 3, 7).await.expect("taken");
    b.has_got(2).await;
    until("the ledger", || sums(&delivery, "a") == (14, 7, 0, [(DropReason::Shutdown, 7)].into())).await;
}

#[tokio::test]
async fn a_log_gets_other_options() {
    let mut world = World::new();
    let fake = Fake::new(Answer::Again(None));
    let delivery = world.open([world.stored("a", &fake)]).await;
    accept(&delivery, 1, 1).await.expect("on disk");
    world.storage.max_bytes = 2 << 20;
    delivery.replan(plan([world.stored("a", &fake)])).await.expect("changed");
    assert_eq!(stats_of(&delivery, "a").queue_bytes_max, 2 << 20);
    accept(&delivery, 2, 1).await.expect("on disk");
    fake.answers(Answer::Yes);
    fake.has_got(2).await;
    until("the ledger", || sums(&delivery, "a") == (2, 2, 0, none())).await;

    world.storage.max_bytes = 1;
    let error = delivery.replan(plan([world.stored("a", &fake)])).await.expect_err("too small");
    assert!(error.to_string().contains("options of the queue"), "{error}");
    accept(&delivery, 3, 1).await.expect("as before");
}

#[tokio::test]
async fn plans_without_sense_are_refused() {
    let (world, fake) = (World::new(), Fake::new(Answer::Yes));
    let twice = world.try_open([destination("a", &fake), destination("a", &fake)]).await.err();
    assert_eq!(
        twice.expect("refused").to_string(),
        "pipeline logs/eu: destination a is there twice: name it once"
    );
    assert!(world.try_open([]).await.is_err(), "no destination");
    let mut other = world.stored("b", &fake);
    other.storage.as_mut().expect("stored").max_bytes += 1;
    assert!(world.try_open([world.stored("a", &fake), other]).await.is_err(), "two logs in one directory");
    let delivery = world.open([world.stored("a", &fake)]).await;
    delivery.close(PATIENCE).await;
    assert!(delivery.replan(plan([world.stored("a", &fake)])).await.is_err(), "it has ended");
    assert!(is_overloaded(accept(&delivery, 1, 1).await), "at once");
}
