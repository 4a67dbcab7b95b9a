//! Load on EventMesh's gRPC services: unary publishes on kept connections, each with a window of calls under way, and
//! perhaps a stream that takes the events.
//!
//!     cargo run --release -p weft-tests --example eventmesh_grpc -- ADDRESS [CONNECTIONS [WINDOW [SECONDS [stream]]]]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests::eventmesh_grpc::{GrpcEvent, GrpcPeer};
use tokio::task::JoinSet;

/// Bytes of data of each event.
const SIZE: usize = 256;

fn event(topic: &str) -> GrpcEvent {
    let attributes = [
        ("subject", topic),
        ("protocoltype", "eventmeshmessage"),
        ("protocolversion", "1.0"),
        ("uniqueid", "123456789012345678901234567890"),
        ("seqnum", "123456789012345678901234567890"),
        ("producergroup", "bench"),
        ("ttl", "30000"),
        ("datacontenttype", "text/plain"),
    ];
    GrpcEvent::from("1", &attributes, &"x".repeat(SIZE))
}

#[tokio::main]
async fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| given.get(at).map_or(default, |text| text.parse().unwrap());
    let address: SocketAddr = given.first().expect("an address").parse().unwrap();
    let (connections, window) = (number(1, 8), number(2, 16));
    let length = Duration::from_secs(number(3, 10) as u64);
    let taken = Arc::new(AtomicU64::new(0));
    let mut reader = JoinSet::new();
    if given.get(4).is_some_and(|word| word == "stream") {
        let mut peer = GrpcPeer::connect(address).await;
        let mut stream = peer.listen("2", "bench-readers", "bench-grpc").await;
        let taken = Arc::clone(&taken);
        reader.spawn(async move {
            let _peer = peer;
            while stream.try_next().await.is_ok() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let end = Instant::now() + length;
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let peer = GrpcPeer::connect(address).await;
        for _ in 0..window {
            let mut peer = peer.share();
            workers.spawn(async move {
                let (event, mut took) = (event("bench-grpc"), Vec::new());
                while Instant::now() < end {
                    let start = Instant::now();
                    peer.publish(&event).await;
                    took.push(start.elapsed());
                }
                took
            });
        }
    }
    let mut took: Vec<Duration> = workers.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    let ms = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    // What is under way to the reader when the last publish is answered.
    let count = took.len() as u64;
    while !reader.is_empty() && taken.load(Ordering::Relaxed) < count && Instant::now() < end + length {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "RESULT grpc connections={connections} window={window} published={count} per_s={:.0} p50_ms={:.2} p99_ms={:.2} taken={}",
        count as f64 / length.as_secs_f64(),
        ms(0.5),
        ms(0.99),
        taken.load(Ordering::Relaxed)
    );
}
