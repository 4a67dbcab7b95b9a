//! The small client against the server side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "test code"
)]

mod common;

use common::*;
use event::{ByteLimit, Reject, RejectKind};
use mqtt::Options;
use mqtt::client::{Client, ClientError, Hello};
use mqtt::codec::{Property, Version};
use tokio::io::DuplexStream;

async fn client(world: &World, client_id: &str) -> Client<DuplexStream> {
    let hello = Hello { client_id: client_id.into(), ..Hello::default() };
    Client::connect(world.open(Version::V5).stream, hello).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_one_client_publishes_another_receives() {
    let world = World::new();
    let mut reader = client(&world, "reader").await;
    reader.subscribe(&["a/#", "b"], ExactlyOnce).await.unwrap();
    let mut writer = client(&world, "").await;
    for (guarantee, data) in [(AtMostOnce, "zero"), (AtLeastOnce, "one"), (ExactlyOnce, "two")] {
        let properties = [Property::ContentType("text/plain")];
        writer.publish("a/b", data.as_bytes(), guarantee, false, &properties).await.unwrap();
        let message = reader.next().await.unwrap();
        assert_eq!((&message.payload[..], message.guarantee), (data.as_bytes(), guarantee));
        assert_eq!(message.properties.iter().collect::<Vec<_>>(), properties);
    }
    reader.disconnect().await.unwrap();
    writer.disconnect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_that_come_while_an_ack_is_waited_for_are_not_lost() {
    let world = World::new();
    let mut both = client(&world, "both").await;
    both.subscribe(&["t"], ExactlyOnce).await.unwrap();
    for data in ["1", "2", "3"] {
        both.publish("t", data.as_bytes(), ExactlyOnce, false, &[]).await.unwrap();
    }
    for data in ["1", "2", "3"] {
        assert_eq!(both.next().await.unwrap().payload, data.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_stays_connected() {
    let world = World::new();
    let mut reader = client(&world, "reader").await;
    reader.subscribe(&["t"], AtMostOnce).await.unwrap();
    let mut waiting = std::pin::pin!(reader.next());
    let hour = std::time::Duration::from_secs(3600);
    assert!(tokio::time::timeout(hour, waiting.as_mut()).await.is_err());
    world.hub.deliver("reader", event("t", b"late"), AtMostOnce);
    assert_eq!(waiting.await.unwrap().payload, &b"late"[..]);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told() {
    let world = World::with(Options { max_packet_bytes: ByteLimit::kib(1), ..Options::default() });
    let mut one = client(&world, "one").await;
    assert!(matches!(one.subscribe(&["a#"], AtMostOnce).await, Err(ClientError::Refused(0x8f))));
    assert!(matches!(
        one.publish("$SYS/a", b"", AtLeastOnce, false, &[]).await,
        Err(ClientError::Refused(0x90))
    ));
    let large = one.publish("a", &[0; 2000], AtLeastOnce, false, &[]).await;
    assert!(matches!(large, Err(ClientError::Closed(0x95))), "{large:?}");
    world.hub.refuse_attach(Some(Reject::new(RejectKind::Busy, "full")));
    let refused = Client::connect(world.open(Version::V5).stream, Hello::default()).await;
    assert!(matches!(refused, Err(ClientError::Refused(0x89))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let (near, _far) = tokio::io::duplex(1024);
    assert!(matches!(Client::connect(near, Hello::default()).await, Err(ClientError::Timeout)));
}
