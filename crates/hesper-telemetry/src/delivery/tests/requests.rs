//! Batches put together and divided.

use super::*;
use hesper_collector_config::Sizer;

fn merge() -> Merge {
    Merge {
        min: 100,
        max: 0,
        sizer: Sizer::Items,
        timeout: Duration::from_millis(200),
        keys: Vec::new(),
        groups: 10,
        across_senders: false,
    }
}

#[tokio::test]
async fn batches_go_out_together_behind_the_queue() {
    let world = World::new();
    let fake = Fake::new(Answer::Yes);
    let merged = Destination { merge: Some(merge()), ..world.stored("a", &fake) };
    let delivery = world.open([merged]).await;
    for number in 1..=20 {
        accept(&delivery, number, 10).await.expect("on disk");
    }
    let got = fake.has_got(2).await;
    assert_eq!(
        got.iter().map(|shipment| (shipment.items, shipment.id)).collect::<Vec<_>>(),
        [(100, None); 2]
    );
    let numbers: Vec<_> = got.iter().flat_map(|shipment| numbers_in(&shipment.batch.payload)).collect();
    assert_eq!(numbers, (1..=20).flat_map(|number| [number; 10]).collect::<Vec<_>>());
    assert_eq!(got[0].origin.sender, shop().sender);
    accept(&delivery, 21, 10).await.expect("on disk");
    assert_eq!(number_of(&fake.has_got(3).await[2]), 21, "after the timeout");
    until("the ledger", || sums(&delivery, "a") == (210, 210, 0, none())).await;
}

#[tokio::test]
async fn towards_a_gateway_batches_go_as_they_came() {
    let fake = Fake::new(Answer::Yes);
    let hop = Destination {
        merge: Some(Merge { max: 5, ..merge() }),
        gateway: true,
        request_bytes: 1,
        ..destination("a", &fake)
    };
    let hop = Destination { request_bytes: usize::MAX, ..hop };
    let delivery = Delivery::open(plan([hop])).await.expect("opened");
    for number in 1..=3 {
        accept(&delivery, number, 10).await.expect("taken");
    }
    let got = fake.has_got(3).await;
    assert!(got.iter().all(|shipment| shipment.items == 10 && shipment.id.is_some()));
}

#[tokio::test]
async fn what_is_too_large_is_divided_and_settled_as_one() {
    let fake = Fake::new(Answer::Partly(1));
    let one = batch(1, 10).payload.len();
    let small = Destination { request_bytes: one, ..destination("a", &fake) };
    let delivery = Delivery::open(plan([small])).await.expect("opened");
    accept(&delivery, 1, 40).await.expect("taken");
    until("the ledger", || sums(&delivery, "a").2 == 0).await;
    let got = fake.got.borrow().clone();
    assert!(got.len() >= 4 && got.iter().all(|shipment| shipment.batch.payload.len() <= one));
    assert_eq!(got.iter().map(|shipment| shipment.items).sum::<u64>(), 40);
    assert!(got.iter().all(|shipment| shipment.id.is_none()));
    let rejected = got.len() as u64;
    assert_eq!(sums(&delivery, "a"), (40, 40 - rejected, 0, [(DropReason::Rejected, rejected)].into()));
}

#[tokio::test]
async fn what_cannot_be_divided_is_dropped_and_counted() {
    let fake = Fake::new(Answer::Yes);
    let tiny = Destination { request_bytes: 3, ..destination("a", &fake) };
    let delivery = Delivery::open(plan([tiny])).await.expect("opened");
    accept(&delivery, 1, 1).await.expect("taken");
    until("the ledger", || sums(&delivery, "a").2 == 0).await;
    assert_eq!(sums(&delivery, "a"), (1, 0, 0, [(DropReason::TooLarge, 1)].into()));
    assert_eq!(*fake.asked.borrow(), 0);
}

#[tokio::test]
async fn requests_have_no_more_items_than_may_be() {
    let fake = Fake::new(Answer::Yes);
    let most = Destination { merge: Some(Merge { min: 5, max: 8, ..merge() }), ..destination("a", &fake) };
    let delivery = Delivery::open(plan([most])).await.expect("opened");
    accept(&delivery, 1, 30).await.expect("taken");
    accept(&delivery, 2, 3).await.expect("taken");
    accept(&delivery, 3, 3).await.expect("taken");
    until("the ledger", || sums(&delivery, "a") == (36, 36, 0, none())).await;
    let got = fake.got.borrow().clone();
    assert!(got.iter().all(|shipment| shipment.items <= 8), "{got:?}");
}
