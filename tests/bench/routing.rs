//! What routing costs an event, by the number of subscriptions and of routes, and what each of these takes of memory. The
//! core alone: no network, QoS 0, so no log either.
//!
//! `cargo run --release -p weft-tests --example bench_routing -- [subscriptions|wildcards|routes|targets|filters] [COUNT…]`
//!
//! Memory is right for the first row only: what one row gave back, the next one takes.
//!
//! Topics have seven levels. "New topic": nobody published to it since the last change of routes or subscriptions, so it is looked up;
//! "known topic": its publisher remembers what it found. In both cases one subscriber gets the event, in a batch of one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::hub::{Admission, Attach, Attached, Hub as _, Publish, Room, Subscribe, SubscribeOptions};
use event::testing::{MemoryStore, take_deliveries};
use event::{Event, Guarantee, Language, Parts, Principal, Select, TopicFilter, TopicName};
use routing::{Core, Options, RouteOptions, TargetOptions};

/// Events of each figure.
const EVENTS: usize = 200_000;
/// Events between two looks of their readers, which are not measured.
const CHUNK: usize = 128;
/// Subscriptions of one session.
const EACH: usize = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let counts: Vec<usize> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![10, 10_000, 1_000_000] } else { counts };
    let all = !arguments.iter().any(|text| text.parse::<usize>().is_err());
    let asked = |what: &str| all || arguments.iter().any(|text| text == what);
    for wildcards in [false, true] {
        let what = if wildcards { "wildcards" } else { "subscriptions" };
        if !asked(what) {
            continue;
        }
        println!("| {what} | new topic ns | known topic ns | B each |\n|---|---|---|---|");
        for count in &counts {
            subscriptions(*count, wildcards).await;
        }
    }
    if asked("routes") {
        println!(
            "| routes | new topic ns | known topic ns | B each | compiled and swapped in ms |\n|---|---|---|---|---|"
        );
        for count in &counts {
            routes(*count).await;
        }
    }
    if asked("targets") {
        println!("| a route with | ns for an event of a known topic |\n|---|---|");
        targets().await;
    }
    if asked("filters") {
        println!("| filters that an event does not pass | µs for an event of a known topic |\n|---|---|");
        filters().await;
    }
}

async fn core(routes: &[RouteOptions]) -> Arc<Core> {
    let (handle, feed) = MemoryStore::new().open();
    let (core, _) =
        Core::recover(Options::default(), routes, handle, feed, Vec::new()).await.expect("a core");
    core
}

fn topic(n: usize) -> String {
    let (site, hall, line) = (n / 10_000, n / 100 % 100, n % 100);
    format!("plant/site-{site}/hall/{hall}/line/{line}/temperature")
}

/// As [`topic`], but any site: one of them matches each topic, as long as halls and lines tell them apart.
fn wildcard(n: usize) -> String {
    let (site, hall, line) = (n / 10_000, n / 100 % 100, n % 100);
    match n % 2 {
        0 => format!("plant/site-{site}/+/{hall}/line/{line}/#"),
        _ => format!("plant/site-{site}/hall/{hall}/+/{line}/+"),
    }
}

fn publish(topic: &str, data: &'static [u8]) -> Publish {
    let topic = TopicName::parse(topic.to_owned()).expect("a topic");
    let (data, publisher) = (Bytes::from_static(data), Arc::from("bench"));
    let parts = Parts { topic, data, stamp: 1, received_ms: 1, expires_ms: 0, publisher, meta: None };
    Publish { event: Event::new(parts), guarantee: Guarantee::AtMostOnce, retain: false, id: None }
}

async fn attach(core: &Core, client: &str) -> Attached {
    core.attach(Principal::anonymous(client), Attach::default()).await.expect("a session")
}

async fn subscriptions(count: usize, wildcards: bool) {
    let core = core(&[]).await;
    let mut publisher = attach(&core, "publisher").await;
    let before = resident();
    let mut readers = Vec::new();
    for first in (0..count).step_by(EACH) {
        let mut reader = attach(&core, &format!("reader-{first}")).await;
        let filter = |n| if wildcards { wildcard(n) } else { topic(n) };
        let wanted = (first..count.min(first + EACH)).map(|n| {
            let filter = TopicFilter::parse(filter(n)).expect("a filter");
            Subscribe::new(filter, SubscribeOptions::new(Guarantee::AtMostOnce))
        });
        for granted in reader.link.subscribe(wanted.collect()).await.expect("granted") {
            granted.expect("granted");
        }
        readers.push(reader);
    }
    let each = each(before, count);
    let new = measure(
        &mut readers,
        |batch| core.publish(&Principal::anonymous("bench"), batch),
        |at| at * 7919 % count,
    )
    .await;
    let known = measure(&mut readers, |batch| publisher.link.publish(batch), |at| at % 10).await;
    println!("| {count} | {new} | {known} | {each} |");
}

/// Nanoseconds for an event; `pick` says whose.
async fn measure(
    readers: &mut [Attached],
    mut publish_to: impl FnMut(Vec<Publish>) -> Admission,
    pick: impl Fn(usize) -> usize,
) -> u128 {
    let mut spent = Duration::ZERO;
    let mut delivered = Vec::new();
    for chunk in 0..EVENTS / CHUNK {
        let picked: Vec<usize> = (0..CHUNK).map(|at| pick(chunk * CHUNK + at)).collect();
        let batches: Vec<Vec<Publish>> = picked.iter().map(|n| vec![publish(&topic(*n), b"21.5")]).collect();
        let from = Instant::now();
        for batch in batches {
            drop(std::hint::black_box(publish_to(batch)));
        }
        spent += from.elapsed();
        if chunk == 0 {
            // Each of them has exactly what was published for it.
            let mut readers_of: Vec<usize> = picked.iter().map(|n| n / EACH).collect();
            readers_of.sort_unstable();
            for same in readers_of.chunk_by(|a, b| a == b) {
                let (reader, count) = (&mut readers[same[0]], delivered.len() + same.len());
                take_deliveries(&mut *reader.link, count, &mut delivered).await.expect("deliveries");
            }
            assert_eq!(delivered.len(), CHUNK, "each event has one reader");
        } else {
            for n in picked {
                let room = Room { numbered: 100, bytes: 1 << 20 };
                let poll = std::future::poll_fn(|cx| {
                    std::task::Poll::Ready(readers[n / EACH].link.poll_deliveries(cx, room, &mut delivered))
                });
                let _ready = poll.await;
            }
        }
        delivered.clear();
    }
    spent.as_nanos() / (EVENTS / CHUNK * CHUNK) as u128
}

fn rule(n: usize) -> RouteOptions {
    RouteOptions::new(TopicFilter::parse(wildcard(n)).expect("a filter"))
}

async fn routes(count: usize) {
    let core = core(&[]).await;
    let mut reader = attach(&core, "reader").await;
    let all = Subscribe::new(
        TopicFilter::parse("#").expect("a filter"),
        SubscribeOptions::new(Guarantee::AtMostOnce),
    );
    reader.link.subscribe(vec![all]).await.expect("granted");
    let mut publisher = attach(&core, "publisher").await;
    let rules: Vec<RouteOptions> = (0..count).map(rule).collect();
    let before = resident();
    let from = Instant::now();
    core.set_routes(&rules, |name| Err(name.to_owned())).expect("routes");
    let compiled = from.elapsed().as_secs_f64() * 1000.0;
    let each = each(before, count);
    let mut readers = [reader];
    let new = measure_all(
        &mut readers,
        |batch| core.publish(&Principal::anonymous("bench"), batch),
        |at| at * 7919 % count,
    )
    .await;
    let known = measure_all(&mut readers, |batch| publisher.link.publish(batch), |at| at % 10).await;
    println!("| {count} | {new} | {known} | {each} | {compiled:.1} |");
}

/// As [`measure`], where one reader gets all.
async fn measure_all(
    readers: &mut [Attached; 1],
    publish_to: impl FnMut(Vec<Publish>) -> Admission,
    pick: impl Fn(usize) -> usize,
) -> u128 {
    time(&mut readers[0], publish_to, |at| publish(&topic(pick(at)), b"21.5")).await
}

async fn time(
    reader: &mut Attached,
    mut publish_to: impl FnMut(Vec<Publish>) -> Admission,
    make: impl Fn(usize) -> Publish,
) -> u128 {
    let mut spent = Duration::ZERO;
    let mut delivered = Vec::new();
    for chunk in 0..EVENTS / CHUNK {
        let batches: Vec<Vec<Publish>> = (0..CHUNK).map(|at| vec![make(chunk * CHUNK + at)]).collect();
        let from = Instant::now();
        for batch in batches {
            drop(std::hint::black_box(publish_to(batch)));
        }
        spent += from.elapsed();
        while delivered.len() < CHUNK {
            take_deliveries(&mut *reader.link, CHUNK - delivered.len(), &mut delivered)
                .await
                .expect("deliveries");
        }
        delivered.clear();
    }
    spent.as_nanos() / (EVENTS / CHUNK * CHUNK) as u128
}

const ORDER: &[u8] = br#"{"id":4711,"total":1234.5,"region":"eu","customer":{"id":"c-17","name":"A. Customer","country":"de"},"items":[{"sku":"A-1","count":3},{"sku":"B-9","count":1}]}"#;

/// One target of each kind; its subscriber gets the event, as without a route.
async fn targets() {
    let plain = TargetOptions::default;
    let topic = |text: &str| Some(text.to_owned());
    let filter = |text: &str| routing::RouteFilter::try_from(text.to_owned()).expect("a filter");
    for (what, filter, target) in [
        ("nothing", None, None),
        ("filter on JSON data", Some(filter("cel: data.total > 1000.0")), None),
        ("topic of levels", None, Some(TargetOptions { topic: topic("office/{2}/{4}"), ..plain() })),
        ("topic of data", None, Some(TargetOptions { topic: topic("office/{2}/{data.region}"), ..plain() })),
        (
            "filter on JSON data, topic of data",
            Some(filter("cel: data.total > 1000.0")),
            Some(TargetOptions { topic: topic("office/{2}/{data.region}"), ..plain() }),
        ),
        (
            "JSON template of four places",
            None,
            Some(TargetOptions {
                data: topic(
                    r#"json: {"order":"{data.id}","total":"{data.total}","who":"{data.customer.name}","at":"{2}"}"#,
                ),
                ..plain()
            }),
        ),
        (
            "CEL that picks an object",
            None,
            Some(TargetOptions { data: topic("cel: data.customer"), ..plain() }),
        ),
        (
            "two attributes and a key",
            None,
            Some(TargetOptions {
                set: [("region", "{data.region}"), ("was", "{topic}")]
                    .map(|(a, b)| (a.to_owned(), b.to_owned()))
                    .into(),
                key: topic("{data.customer.id}"),
                ..plain()
            }),
        ),
    ] {
        let rule = RouteOptions {
            filter,
            to: target.into_iter().collect(),
            ..RouteOptions::new(TopicFilter::parse("plant/#").expect("a filter"))
        };
        let core = core(&[rule]).await;
        let mut reader = attach(&core, "reader").await;
        let all = Subscribe::new(
            TopicFilter::parse("#").expect("a filter"),
            SubscribeOptions::new(Guarantee::AtMostOnce),
        );
        reader.link.subscribe(vec![all]).await.expect("granted");
        let mut publisher = attach(&core, "publisher").await;
        let ns = time(
            &mut reader,
            |batch| publisher.link.publish(batch),
            |at| publish(&self::topic(at % 10), ORDER),
        )
        .await;
        println!("| {what} | {ns} |");
    }
}

/// Sessions with so many filters each, of which no event passes one.
async fn filters() {
    let list = vec!["1"; 60].join(",");
    let slow = format!("[{list}].exists(a, [{list}].exists(b, [{list}].exists(c, a + b + c < 0)))");
    for (what, sessions, each, text) in [
        ("1000 sessions, all the same", 1000, 1, &|_| "data.total > 1000000.0".to_owned()),
        ("1000 sessions, each another", 1000, 1, &|n| format!("data.total > 1000000.0 + {n}.0")),
        ("10 sessions, 100 each, made to be slow", 10, 100, &|n| format!("{slow} || {n} < 0")),
    ] as [(_, _, _, &dyn Fn(usize) -> String); 3]
    {
        let core = core(&[]).await;
        let mut readers = Vec::new();
        for session in 0..sessions {
            let mut reader = attach(&core, &format!("reader-{session}")).await;
            let wanted = (0..each).map(|n| Subscribe {
                select: Some(Select::new(Language::Cel, text(session * each + n))),
                ..Subscribe::new(
                    TopicFilter::parse(some_levels(n)).expect("a filter"),
                    SubscribeOptions::new(Guarantee::AtMostOnce),
                )
            });
            for granted in reader.link.subscribe(wanted.collect()).await.expect("granted") {
                granted.expect("granted");
            }
            readers.push(reader);
        }
        let mut publisher = attach(&core, "publisher").await;
        let mut least = Duration::MAX;
        for _ in 0..20 {
            let event = publish(&topic(0), ORDER);
            let from = Instant::now();
            drop(std::hint::black_box(publisher.link.publish(vec![event])));
            least = least.min(from.elapsed());
        }
        println!("| {what} | {} |", least.as_micros());
    }
}

/// A filter that matches [`topic`] 0: for each bit of `n`, a `+` in the place of a level.
fn some_levels(n: usize) -> String {
    let level = |(at, level): (usize, &str)| if n >> at & 1 == 1 { "+".to_owned() } else { level.to_owned() };
    topic(0).split('/').enumerate().map(level).collect::<Vec<_>>().join("/")
}

/// What each of so many took of memory since then; of few nobody can tell.
fn each(before: u64, count: usize) -> String {
    match count {
        1000.. => (resident().saturating_sub(before) / count as u64).to_string(),
        _ => String::new(),
    }
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
