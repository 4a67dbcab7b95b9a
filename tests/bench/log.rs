//! The embedded log and the core above it, without a network: how near to the disk's limit it writes, how fast it comes
//! back, what a checkpoint does to appends, and how much more is written than events hold.
//!
//! `cargo run --release -p weft-tests --example bench_log -- WHAT [DIR] [NUMBERS]`
//!
//! | what | it does |
//! |---|---|
//! | `append [DIR]` | appends beside a plain file with the same bytes and syncs, in one run |
//! | `fill DIR RECORDS BYTES` | makes a log of so many events of so many bytes, no checkpoint, and ends as in a crash |
//! | `recover DIR` | opens it, replays it, and ends as in a crash |
//! | `stop DIR` | the same, but stops in order, so that a checkpoint stands at the end |
//! | `checkpoint DIR SESSIONS POSITIONS` | synced appends while checkpoints of so much are made, and while none are |
//! | `crowd DIR SESSIONS POSITIONS` | durable sessions, away, with so many events waiting in all; ends as in a crash |
//! | `comeback DIR SESSIONS EACH` | opens that; so many sessions come back at once and drain EACH events, beside live traffic |
//! | `amplify DIR EVENTS BYTES` | bytes written for each byte of event data: QoS 1 with a durable subscriber |
//!
//! DIR is on the disk in question; without one, the current folder is used.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use embedded::{Opened, RealDisk};
use event::hub::{Attach, Attached, Hub as _, Publish, Room, Subscribe, SubscribeOptions};
use event::store::{Append, Entry, Feed, Store};
use event::testing::{next_deliveries, take_deliveries};
use event::{ByteLimit, Durability, Event, Guarantee, Health, Parts, Principal, TopicFilter, TopicName};
use routing::{Core, Recovered};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match arguments[..] {
        ["append"] => append(Path::new(".")).await,
        ["append", dir] => append(Path::new(dir)).await,
        ["fill", dir, records, bytes] => fill(Path::new(dir), number(records), number(bytes)).await,
        ["recover", dir] => drop(recover(Path::new(dir), NO_CHECKPOINTS, true).await),
        ["stop", dir] => {
            let life = recover(Path::new(dir), NO_CHECKPOINTS, true).await;
            life.stop().await;
        }
        ["checkpoint", dir, sessions, positions] => {
            checkpoint(Path::new(dir), number(sessions), number(positions)).await;
        }
        ["crowd", dir, sessions, positions] => {
            let life = recover(Path::new(dir), routing::Options::default().checkpoint_bytes, false).await;
            crowded(&life.core, number(sessions), number(positions)).await;
        }
        ["comeback", dir, sessions, each] => comeback(Path::new(dir), number(sessions), number(each)).await,
        ["amplify", dir, events, bytes] => amplify(Path::new(dir), number(events), number(bytes)).await,
        _ => panic!("append, fill, recover, stop, checkpoint or amplify: see the top of tests/bench/log.rs"),
    }
    // As in a crash: nothing is said goodbye to.
    std::process::exit(0);
}

const NO_CHECKPOINTS: ByteLimit = ByteLimit(u64::MAX);

/// Weft without protocols.
struct Life {
    core: Arc<Core>,
    log: embedded::Handle,
}

impl Life {
    async fn stop(self) {
        let from = Instant::now();
        self.core.stop().await;
        println!("stopped, with a checkpoint, in {:.2?}", from.elapsed());
        tokio::task::spawn_blocking(move || self.log.close()).await.expect("the log closes");
    }
}

async fn recover(dir: &Path, checkpoint_bytes: ByteLimit, tell: bool) -> Life {
    let core = routing::Options { checkpoint_bytes, ..routing::Options::default() };
    let from = Instant::now();
    let Opened { store, feed, handle, report } =
        embedded::open(&log_options(), dir, RealDisk, Health::default()).expect("the log opens");
    let opened = from.elapsed();
    let (core, recovered) =
        Core::recover(core, &[], store, feed, Vec::new()).await.expect("the core recovers");
    let all = from.elapsed();
    let Recovered { records, sessions, backlog, .. } = recovered;
    if tell {
        println!(
            "ready in {all:.2?}: log opened in {opened:.2?} ({} segments, {} records behind the checkpoint), core in {:.2?} \
             ({records} records replayed, {sessions} sessions, {backlog} positions); {} MiB peak memory",
            report.segments,
            report.records,
            all - opened,
            status_kib("VmHWM:") >> 10,
        );
    }
    Life { core, log: handle }
}

/// The defaults, with room for what is measured here.
fn log_options() -> embedded::Options {
    embedded::Options {
        max_bytes: ByteLimit::gib(64),
        retain_bytes: ByteLimit(0),
        ..embedded::Options::default()
    }
}

fn event(topic: &TopicName, data: &Bytes, stamp: u64) -> Event {
    let (topic, data, publisher) = (topic.clone(), data.clone(), Arc::from("device-17"));
    Event::new(Parts { topic, data, stamp, received_ms: 1, expires_ms: 0, publisher, meta: None })
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text.to_owned()).expect("a topic")
}

fn data(bytes: u64) -> Bytes {
    vec![7; usize::try_from(bytes).expect("it fits memory")].into()
}

// ---- append -------------------------------------------------------------------------------------------------------

/// How long each writer writes in one turn, and how many turns there are: they go by turns, since disks have moods.
const TURN: Duration = Duration::from_millis(400);
const TURNS: usize = 5;

async fn append(dir: &Path) {
    let dir = tempfile::tempdir_in(dir).expect("a folder");
    println!(
        "| bytes | records a sync | plain file, growing MB/s | plain file, in place MB/s | log MB/s | of growing | of in place |"
    );
    println!("|---|---|---|---|---|---|---|");
    for bytes in [256, 4 << 10, 64 << 10] {
        for batch in [1, 10, 100, 1000] {
            if bytes * batch > 8 << 20 {
                continue;
            }
            let mut rates = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..TURNS {
                rates[0].push(plain(&dir.path().join("plain"), bytes * batch, false));
                rates[1].push(plain(&dir.path().join("plain"), bytes * batch, true));
                rates[2].push(log(&dir.path().join("log"), bytes, batch).await);
            }
            let [growing, in_place, log] = rates.map(|mut rates| {
                rates.sort_by(f64::total_cmp);
                rates[TURNS / 2]
            });
            println!(
                "| {bytes} | {batch} | {growing:.1} | {in_place:.1} | {log:.1} | {:.0} % | {:.0} % |",
                log / growing * 100.0,
                log / in_place * 100.0
            );
        }
    }
}

/// Writes and syncs `bytes` again and again; MB/s. In place: over a file of zeros, so that a sync writes no metadata.
fn plain(path: &Path, bytes: u64, in_place: bool) -> f64 {
    const SIZE: u64 = 64 << 20;
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("a file");
    if in_place {
        file.write_all_at(&vec![0; 64 << 20], 0).expect("a write");
        file.sync_all().expect("a sync");
    }
    let buffer = data(bytes);
    let (mut at, mut all) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < TURN {
        if in_place && at + bytes > SIZE {
            at = 0;
        }
        file.write_all_at(&buffer, at).expect("a write");
        file.sync_data().expect("a sync");
        at += bytes;
        all += bytes;
    }
    rate(all, start)
}

fn rate(bytes: u64, start: Instant) -> f64 {
    bytes as f64 / start.elapsed().as_secs_f64() / 1e6
}

/// Two publishers by turns: one's batch collects while the other's syncs. MB/s of event data.
async fn log(dir: &Path, bytes: u64, batch: u64) -> f64 {
    let Opened { store, feed, handle, .. } =
        embedded::open(&log_options(), dir, RealDisk, Health::default()).expect("the log opens");
    let start = Instant::now();
    let dispatch = tokio::spawn(dispatch(feed));
    let publishers = [(); 2].map(|()| tokio::spawn(publish(store.clone(), bytes, batch, start)));
    drop(store);
    let mut all = 0;
    for publisher in publishers {
        all += publisher.await.expect("a publisher");
    }
    let rate = rate(all, start);
    dispatch.await.expect("the dispatcher");
    tokio::task::spawn_blocking(move || handle.close()).await.expect("the log closes");
    std::fs::remove_dir_all(dir).expect("the folder goes");
    rate
}

async fn publish(store: Store, bytes: u64, batch: u64, start: Instant) -> u64 {
    let (topic, data) = (topic("bench/device/17/temperature"), data(bytes));
    let mut all = 0;
    while start.elapsed() < TURN {
        let entry = |stamp| Entry { event: Some(event(&topic, &data, stamp)), note: Bytes::new() };
        let (append, receipt) = Append::new((0..batch).map(entry).collect(), Durability::Synced);
        store.append(append).await;
        receipt.await.whole().expect("kept");
        all += bytes * batch;
    }
    all
}

async fn dispatch(mut feed: Feed) {
    while let Some(batch) = feed.recv().await {
        batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
    }
}

// ---- fill ---------------------------------------------------------------------------------------------------------

/// Events that one call brings.
const BATCH: u64 = 500;

async fn fill(dir: &Path, records: u64, bytes: u64) {
    let life = recover(dir, NO_CHECKPOINTS, false).await;
    let mut reader = join(&life.core, "reader", "bench/#").await;
    let mut sent = 0;
    let data = data(bytes);
    while sent < records {
        send(&life.core, &topic(&format!("bench/device/{}", sent / BATCH % 100)), &data, BATCH).await;
        take(&mut reader, BATCH).await;
        sent += BATCH;
    }
    std::mem::forget(reader);
    println!("{sent} events of {bytes} B, {} MiB of log", disk_bytes(dir) >> 20);
}

async fn join(core: &Core, client: &str, filter: &str) -> Attached {
    let request = Attach { keep: Duration::MAX, ..Attach::default() };
    let mut attached = core.attach(Principal::anonymous(client), request).await.expect("a session");
    let filter = TopicFilter::parse(filter.to_owned()).expect("a filter");
    let options = SubscribeOptions::new(Guarantee::AtLeastOnce);
    attached.link.subscribe(vec![Subscribe::new(filter, options)]).await.expect("an answer");
    attached
}

async fn send(core: &Core, topic: &TopicName, data: &Bytes, count: u64) {
    let who = Principal::anonymous("device-17");
    let guarantee = Guarantee::AtLeastOnce;
    let publish = |stamp| Publish { event: event(topic, data, stamp), guarantee, retain: false, id: None };
    core.publish(&who, (0..count).map(publish).collect()).receipt().await.await.whole().expect("kept");
}

/// Takes and acknowledges so many deliveries.
async fn take(reader: &mut Attached, count: u64) {
    let mut out = Vec::new();
    take_deliveries(&mut *reader.link, usize::try_from(count).expect("a count"), &mut out)
        .await
        .expect("deliveries");
    let numbers: Vec<u64> = out.iter().filter_map(|delivery| delivery.number).collect();
    reader.link.ack(&numbers);
}

// ---- checkpoint ---------------------------------------------------------------------------------------------------

/// How long appends are timed.
const WATCH: Duration = Duration::from_secs(6);

async fn checkpoint(dir: &Path, sessions: u64, positions: u64) {
    let dir = tempfile::tempdir_in(dir).expect("a folder");
    let life = recover(dir.path(), NO_CHECKPOINTS, false).await;
    crowded(&life.core, sessions, positions).await;
    life.stop().await;
    println!("the checkpoint has {} KiB", checkpoint_bytes(dir.path()) >> 10);
    for (what, checkpoints) in [("none", NO_CHECKPOINTS), ("one after the other", ByteLimit::kib(64))] {
        let life = recover(dir.path(), checkpoints, true).await;
        let before = checkpoints_made(dir.path());
        let mut took = Vec::new();
        let start = Instant::now();
        while start.elapsed() < WATCH {
            let from = Instant::now();
            send(&life.core, &topic("nobody/wants/this"), &data(256), 1).await;
            took.push(from.elapsed());
        }
        took.sort();
        let at = |thousandths: usize| took[(took.len() - 1) * thousandths / 1000];
        println!(
            "checkpoints: {what}: {} synced appends, p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, max {:.2?}{}",
            took.len(),
            at(500),
            at(990),
            at(999),
            at(1000),
            if before == checkpoints_made(dir.path()) { "" } else { " (checkpoints were made)" }
        );
        life.stop().await;
    }
}

async fn crowded(core: &Arc<Core>, sessions: u64, positions: u64) {
    let bare = status_kib("VmRSS:");
    crowd(core, sessions).await;
    let with_sessions = status_kib("VmRSS:");
    for _ in 0..positions / sessions {
        send(core, &topic("all/news"), &data(256), 1).await;
    }
    println!(
        "{sessions} sessions away, 2 subscriptions each: {} B of memory each; with {positions} positions {} MiB in all",
        (with_sessions - bare) * 1024 / sessions,
        (status_kib("VmRSS:") - bare) >> 10
    );
}

/// Sessions that subscribe to a topic of their own and one of all, and leave.
async fn crowd(core: &Arc<Core>, sessions: u64) {
    const AT_ONCE: u64 = 500;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..AT_ONCE.min(sessions) {
        let core = Arc::clone(core);
        workers.spawn(async move {
            for number in (worker..sessions).step_by(usize::try_from(AT_ONCE).expect("it fits")) {
                let mut session =
                    join(&core, &format!("device-{number}"), &format!("devices/{number}/commands")).await;
                let filter = TopicFilter::parse("all/#").expect("a filter");
                let options = SubscribeOptions::new(Guarantee::AtLeastOnce);
                session.link.subscribe(vec![Subscribe::new(filter, options)]).await.expect("an answer");
            }
        });
    }
    workers.join_all().await;
}

fn checkpoints_made(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir)
        .expect("the folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".checkpoint")).collect();
    names.sort();
    names
}

fn checkpoint_bytes(dir: &Path) -> u64 {
    let last = checkpoints_made(dir).pop().expect("a checkpoint");
    std::fs::metadata(dir.join(last)).expect("the checkpoint").len()
}

// ---- comeback -----------------------------------------------------------------------------------------------------

/// How long live traffic is watched before the sessions come.
const CALM: Duration = Duration::from_secs(4);
/// How much one of them takes at once.
const ROOM: Room = Room { numbered: 20, bytes: 64 << 10 };

async fn comeback(dir: &Path, sessions: u64, each: u64) {
    let life = recover(dir, NO_CHECKPOINTS, true).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let live = tokio::spawn(live(Arc::clone(&life.core), stopped.clone()));
    tokio::time::sleep(CALM).await;
    let start = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..sessions {
        let core = Arc::clone(&life.core);
        workers.spawn(async move {
            let request = Attach { keep: Duration::MAX, ..Attach::default() };
            let who = Principal::anonymous(format!("device-{number}").as_str());
            let mut attached = core.attach(who, request).await.expect("a session");
            let (mut out, mut left) = (Vec::new(), each);
            while left > 0 {
                next_deliveries(&mut *attached.link, ROOM, &mut out).await.expect("deliveries");
                let numbers: Vec<u64> = out.drain(..).filter_map(|delivery| delivery.number).collect();
                left = left.saturating_sub(numbers.len() as u64);
                attached.link.ack(&numbers);
            }
            start.elapsed()
        });
    }
    let mut done = workers.join_all().await;
    let all = start.elapsed();
    stop.send_replace(true);
    let (calm, busy): (Vec<_>, Vec<_>) =
        live.await.expect("live traffic").into_iter().partition(|(at, _)| *at < start);
    done.sort();
    let at = |hundredths: usize| done[(done.len() - 1) * hundredths / 100];
    println!(
        "{sessions} sessions drained {each} events each in {all:.2?}: the first was done after {:.2?}, half after {:.2?}, 95 % after {:.2?}, \
         the last after {:.2?}",
        at(0),
        at(50),
        at(95),
        at(100)
    );
    for (what, took) in [("calm", calm), ("meanwhile", busy)] {
        let mut took: Vec<Duration> = took.into_iter().map(|(_, took)| took).collect();
        took.sort();
        let at = |hundredths: usize| took[(took.len() - 1) * hundredths / 100];
        println!(
            "live, {what}: {} events, p50 {:.2?}, p99 {:.2?}, max {:.2?}",
            took.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}

/// One event each 2 ms from a publisher to a durable subscriber: when it was sent, and how long it took to get there.
async fn live(core: Arc<Core>, stopped: tokio::sync::watch::Receiver<bool>) -> Vec<(Instant, Duration)> {
    let mut reader = join(&core, "live", "live/#").await;
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    let (topic, data) = (topic("live/value"), data(256));
    let mut took = Vec::new();
    while !*stopped.borrow() {
        tick.tick().await;
        let from = Instant::now();
        send(&core, &topic, &data, 1).await;
        take(&mut reader, 1).await;
        took.push((from, from.elapsed()));
    }
    took
}

// ---- amplify ------------------------------------------------------------------------------------------------------

/// Publishers, and events that each has on its way: as many as the pairs of the other bench have in flight.
const PUBLISHERS: u64 = 8;
const IN_FLIGHT: u64 = 50;

async fn amplify(dir: &Path, events: u64, bytes: u64) {
    let dir = tempfile::tempdir_in(dir).expect("a folder");
    let life = recover(dir.path(), routing::Options::default().checkpoint_bytes, false).await;
    let (before, start) = (written(), Instant::now());
    let mut pairs = tokio::task::JoinSet::new();
    for pair in 0..PUBLISHERS {
        let core = Arc::clone(&life.core);
        pairs.spawn(async move {
            let name = format!("bench/{pair}");
            let mut reader = join(&core, &name, &name).await;
            let (topic, data) = (topic(&name), data(bytes));
            for _ in 0..events / PUBLISHERS / IN_FLIGHT {
                send(&core, &topic, &data, IN_FLIGHT).await;
                take(&mut reader, IN_FLIGHT).await;
            }
        });
    }
    pairs.join_all().await;
    let took = start.elapsed();
    let after = written();
    let all = (events * bytes) as f64;
    println!(
        "{events} events of {bytes} B in {took:.1?}: {:.2} B of log, {:.2} B written by the program, {:.2} B by the disk, for \
         each byte of data; {} checkpoints stand",
        disk_bytes(dir.path()) as f64 / all,
        (after.0 - before.0) as f64 / all,
        (after.1 - before.1) as f64 / all,
        checkpoints_made(dir.path()).len(),
    );
    life.stop().await;
}

/// Bytes that this process made dirty, and those that all disks of the machine wrote.
fn written() -> (u64, u64) {
    let io = std::fs::read_to_string("/proc/self/io").expect("/proc/self/io");
    let own = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
    let disks = std::fs::read_to_string("/proc/diskstats").expect("/proc/diskstats");
    // Major, minor, name, then: reads, merged, sectors, ms, writes, merged, sectors of 512 B. Whole disks only.
    let sectors = |line: &str| -> Option<u64> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_disk = Path::new("/sys/block").join(fields.get(2)?).join("device").exists();
        if is_disk { fields.get(9)?.parse().ok() } else { None }
    };
    (own.expect("write_bytes"), disks.lines().filter_map(sectors).sum::<u64>() * 512)
}

fn disk_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("the folder").filter_map(Result::ok);
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn status_kib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line =
        status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    line.unwrap_or(0)
}
