//! A log that has used its budget with events that somebody waits for: refused with a code, or the oldest dropped and counted. So
//! is what the full queue of a session drops.

use tests::PATIENCE;
use tests::Weft;
use tests::raw::Client;
use tests::weft::Setup;
use tests::wire::{Connect, Publish};

const EVENTS: usize = 1200;

async fn start(when_full: &str) -> Weft {
    let config = format!(
        "[store]\nmax_bytes = \"4 MiB\"\nsegment_bytes = \"256 KiB\"\nprewrite_bytes = \"64 KiB\"\n\
         [core]\ncheckpoint_bytes = \"512 KiB\"\n\
         [[route]]\ntopic = \"d/#\"\nwhen_full = \"{when_full}\"\n"
    );
    Setup::new().config(&config).start().await
}

/// A session that is away, and a publisher that sends it more than the log may hold. How many were acknowledged as kept.
async fn overfill(weft: &Weft) -> usize {
    let (mut away, _) = Client::connect(weft.mqtt, &Connect::v5("away").persistent()).await.unwrap();
    away.subscribe(&[("d/#", 1)]).await;
    away.disconnect().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    let mut kept = 0;
    for n in 0..EVENTS {
        let mut payload = format!("{n} ").into_bytes();
        payload.resize(10_000, b'.');
        kept += usize::from(writer.publish(Publish::new("d/1", payload, 1)).await.is_ok());
    }
    kept
}

async fn collect(weft: &Weft, until: impl Fn(&[usize]) -> bool) -> Vec<usize> {
    let (mut back, present) = Client::connect(weft.mqtt, &Connect::v5("away").persistent()).await.unwrap();
    assert!(present);
    let mut numbers = Vec::new();
    let all = async {
        while !until(&numbers) {
            let message = back.message().await.unwrap().expect("an event");
            let text = String::from_utf8(message.payload).unwrap();
            numbers.push(text.split(' ').next().unwrap().parse().unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all that is there");
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_go_where_the_route_says_so_and_are_counted() {
    let weft = start("drop-oldest").await;
    assert_eq!(overfill(&weft).await, EVENTS, "none is refused");
    assert!(weft.metric("weft_store_disk_bytes").await.unwrap() <= 4194304.0);
    assert!(weft.metric("weft_store_dropped_bytes_total").await.unwrap() > 1e6);
    let numbers = collect(&weft, |numbers| numbers.last() == Some(&(EVENTS - 1))).await;
    assert!(numbers.len() > 100 && numbers[0] > 100, "{} from {}", numbers.len(), numbers[0]);
    assert_eq!(numbers, (numbers[0]..EVENTS).collect::<Vec<_>>(), "the newest, in order, without a gap");
    let dropped = weft.metric("weft_core_events_dropped_total").await;
    assert_eq!(dropped, Some(numbers[0] as f64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_word_of_the_route_new_ones_are_refused() {
    let weft = start("refuse").await;
    let kept = overfill(&weft).await;
    assert!(kept > 100 && kept < EVENTS - 100, "{kept}");
    assert_eq!(weft.metric("weft_store_dropped_bytes_total").await.unwrap_or(0.0), 0.0);
    let numbers = collect(&weft, |numbers| numbers.len() == kept).await;
    assert_eq!(numbers, (0..kept).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_drops_is_counted_whichever_it_is() {
    for queue_full in ["drop-newest", "drop-oldest"] {
        let config = format!("[core]\nqueue_events = 3\nqueue_full = \"{queue_full}\"\n");
        let weft = Setup::new().config(&config).start().await;
        let (mut away, _) = Client::connect(weft.mqtt, &Connect::v5("away").persistent()).await.unwrap();
        away.subscribe(&[("d/#", 1)]).await;
        away.disconnect().await;
        let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
        for n in 0..10 {
            writer.publish(Publish::new("d/1", n.to_string(), 1)).await.unwrap();
        }
        let dropped = weft.series("weft_core_events_dropped_total{reason=\"queue_full\"}").await;
        assert_eq!(dropped, Some(7.0), "{queue_full}");
    }
}
