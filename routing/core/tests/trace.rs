//! What became of an event, from checkpoints before and behind it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use event::Guarantee::AtLeastOnce;
use event::hub::SubscribeOptions;
use event::store::Position;
use event::testing::MemoryStore;
use routing::trace::{State, Traced, Tracer, find};
use support::*;

/// What is known of the events with this id, from this checkpoint on.
async fn trace(store: &MemoryStore, id: &str, checkpoint: Option<&(Position, bytes::Bytes)>) -> Vec<Traced> {
    let traced = store.records().iter().filter_map(|record| find(record, id, None)).collect();
    let checkpoint = checkpoint.map(|(position, image)| (*position, &**image));
    let mut tracer = Tracer::new(options(), store.open().0, checkpoint, traced).await.unwrap();
    let start = tracer.start();
    store
        .records()
        .into_iter()
        .filter(|record| record.position > start)
        .for_each(|record| tracer.pass(record));
    tracer.finish()
}

fn told(traced: &Traced) -> Vec<(&str, State)> {
    let mut all: Vec<_> =
        traced.deliveries.iter().map(|one| (one.client.as_deref().unwrap(), one.state)).collect();
    all.sort_by_key(|(client, _)| *client);
    all
}

#[tokio::test]
async fn deliveries_that_were_over_before_the_oldest_checkpoint_are_not_known_and_it_says_so() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let (mut worker, mut away) =
        (attach(&core, "worker", FOREVER).await, attach(&core, "away", FOREVER).await);
    for link in [&mut worker.link, &mut away.link] {
        subscribe(&mut **link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    }
    let event = event("a", "x");
    let id = event.id().into_owned();
    send(&core, event, AtLeastOnce).await;
    let numbers = numbers(&take(&mut *worker.link, 1).await);
    worker.link.ack(&numbers);
    core.stop().await;
    let checkpoint = store.open().0.load_checkpoint().await.unwrap().unwrap();

    let whole = trace(&store, &id, None).await;
    assert_eq!(whole.len(), 1);
    assert_eq!(told(&whole[0]), [("away", State::Waiting), ("worker", State::Done)]);
    assert_eq!(whole[0].known_from, None);
    let late = trace(&store, &id, Some(&checkpoint)).await;
    assert_eq!(told(&late[0]), [("away", State::Waiting)], "what waits is in the checkpoint");
    assert_eq!(late[0].known_from, Some(checkpoint.0.0));
}
