//! How fast Weft posts events to a webhook, as a Markdown table: MQTT publishers hand them over, and a webhook in this program
//! answers each post at once.
//!
//!     cargo build --release && WEFT_BIN=target/release/weft \\
//!         cargo run --release -p weft-tests --example bench_hooks [-- EVENTS]

use std::time::Instant;

use tests::hook::Hook;
use tests::raw::Client;
use tests::weft::Setup;
use tests::wire::{Connect, Publish};

/// Bytes of an event's data.
const SIZE: usize = 256;
/// Topics that take turns.
const TOPICS: u64 = 16;

#[tokio::main]
async fn main() {
    let count = std::env::args().nth(1).map_or(100_000, |text| text.parse().expect("a number"));
    println!(
        "| {count} events of {SIZE} B, QoS 1 | `in_flight` | events/s | Weft's CPU µs/event | RSS MiB |"
    );
    println!("|---|---|---|---|---|");
    for mode in ["structured", "binary"] {
        for in_flight in [1, 16, 64] {
            run(mode, in_flight, count).await;
        }
    }
}

async fn run(mode: &str, in_flight: u16, count: u64) {
    let mut hook = Hook::start().await;
    let config = format!(
        "[hook.bench]\nurl = {:?}\ntopics = [\"meters/#\"]\nmode = {mode:?}\nin_flight = {in_flight}\n",
        hook.url()
    );
    let weft = Setup::new().config(config).start().await;
    let (mut client, _) = Client::connect(weft.mqtt, &Connect::v5("fill")).await.unwrap();
    let make = |n| Publish::new(&format!("meters/{}", n % TOPICS), vec![b'x'; SIZE], 1);
    let (cpu, start) = (weft.cpu(), Instant::now());
    let taking = async {
        for _ in 0..count {
            hook.next().await;
        }
    };
    tokio::join!(client.publish_many(count, make), taking);
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let cost = (weft.cpu() - cpu).as_secs_f64() * 1e6 / count as f64;
    println!("| {mode} | {in_flight} | {rate:.0} | {cost:.1} | {} |", weft.memory() >> 20);
}
