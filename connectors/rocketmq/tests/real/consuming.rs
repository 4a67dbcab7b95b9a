//! Consuming with others, what is refused, filters, starts and locks.

use std::io::BufRead as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use event::testing::Answer;
use event::{Reject, RejectKind};
use remoting::{Command, Decoder, Encoding, encode};
use rocketmq::Start;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_share_the_queues_of_5_3_3() {
    let Some(rocketmq) = start("5.3.3") else { return };
    groups_share_queues(&rocketmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_share_the_queues_of_4_9_7() {
    let Some(rocketmq) = start("4.9.7") else { return };
    groups_share_queues(&rocketmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_have_what_they_ask_5_3_3_for() {
    let Some(rocketmq) = start("5.3.3") else { return };
    groups_have_what_they_ask_for(&rocketmq, "5.3.3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_have_what_they_ask_4_9_7_for() {
    let Some(rocketmq) = start("4.9.7") else { return };
    groups_have_what_they_ask_for(&rocketmq, "4.9.7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_popped_from_5_3_3_is_done_when_it_is_kept() {
    let Some(rocketmq) = start("5.3.3") else { return };
    what_is_popped_is_done_when_it_is_kept(&rocketmq).await;
}

async fn groups_share_queues(rocketmq: &RocketMq) {
    java_and_weft_share_a_group(rocketmq).await;
    a_queue_changes_hands_without_being_in_two(rocketmq).await;
    nodes_that_broadcast_get_everything(rocketmq).await;
}

async fn groups_have_what_they_ask_for(rocketmq: &RocketMq, version: &str) {
    what_is_refused_comes_again_and_dies_at_last(rocketmq).await;
    brokers_leave_out_what_a_rule_does_not_want(rocketmq).await;
    a_new_group_begins_where_it_is_told_to(rocketmq, version).await;
    offsets_that_somebody_sets_are_followed(rocketmq).await;
}

/// Two members that pop share what is there without queues of their own; what is refused comes again, once; and what takes longer
/// than it is invisible comes to nobody else.
async fn what_is_popped_is_done_when_it_is_kept(rocketmq: &RocketMq) {
    let options = || BridgeOptions {
        pop: true,
        invisible_s: 10,
        group: Some("popping".to_owned()),
        ..inward(&[InRule { tags: Some("go".into()), ..in_rule("Popped", "popped") }])
    };
    let refusal = |kind| Answer::Refused(Reject::new(kind, "the test says so"));
    let lines: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    rocketmq.send("Popped", &["TAGS=go"], &lines);
    rocketmq.send("Popped", &["TAGS=stay"], &["not wanted".to_owned()]);
    let one = Running::like(rocketmq, "pop-one", options()).await;
    one.hub.answer_next(refusal(RejectKind::Denied));
    let two = Running::like(rocketmq, "pop-two", options()).await;
    let all: BTreeSet<String> = lines.iter().cloned().collect();
    until("both have all", || one.bodies().union(&two.bodies()).count() == all.len()).await;
    // The hub knows of the batch that it refused, too: that comes once more.
    let calls = one.hub.calls();
    let first =
        calls.iter().find_map(|call| if let Call::Publish { batch, .. } = call { Some(batch) } else { None });
    let comes_again = |refused: &Publish| {
        let published = [one.hub.published(), two.hub.published()].concat();
        published.iter().filter(|publish| publish.event.data() == refused.event.data()).count() > 1
    };
    until("what was refused came again", || first.unwrap().iter().all(comes_again)).await;
    two.stop().await;
    let before = one.hub.published().len();

    // The hub is busy for several times as long as it is invisible, some 40 seconds.
    (0..44).for_each(|_| one.hub.answer_next(refusal(RejectKind::Busy)));
    rocketmq.send("Popped", &["TAGS=go"], &["slow".to_owned()]);
    until("the slow one came", || one.bodies().contains("slow")).await;
    let three = Running::like(rocketmq, "pop-three", options()).await;
    let slow = || one.hub.published().iter().filter(|publish| &**publish.event.data() == b"slow").count();
    until("the slow one is tried again", || slow() > 22).await;
    until("the slow one is kept", || slow() > 44).await;
    assert_eq!(one.hub.published().len(), before + slow(), "nothing else came meanwhile");
    one.stop().await;
    // All is acked: who pops next gets what is new.
    rocketmq.send("Popped", &["TAGS=go"], &["new".to_owned()]);
    until("the new one came", || three.bodies().contains("new")).await;
    assert_eq!(three.bodies(), BTreeSet::from(["new".to_owned()]));
    three.stop().await;
}

/// As `mqadmin resetOffsetByTime` does it: brokers of 4.9 tell the members, those of 5.x wait for their pulls.
async fn offsets_that_somebody_sets_are_followed(rocketmq: &RocketMq) {
    let bridge = Running::like(rocketmq, "reset", inward(&[in_rule("Reset", "reset")])).await;
    let lines: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    rocketmq.send("Reset", &[], &lines);
    bridge.until_published(8).await;
    let command = Command::request(INVOKE_BROKER_TO_RESET_OFFSET)
        .with("topic", "Reset")
        .with("group", "weft-bridge-reset")
        .with("timestamp", "0")
        .with("isForce", "true");
    // Brokers refuse while a queue is not committed.
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while ask(&rocketmq.broker(), &command).await != 0 {
        tick.tick().await;
    }
    let published = bridge.until_published(16).await;
    let again: BTreeSet<_> = published[8..].iter().map(|publish| publish.event.data().clone()).collect();
    assert_eq!(again.len(), 8);
    bridge.stop().await;
}

const INVOKE_BROKER_TO_RESET_OFFSET: i32 = 222;

/// The code that a broker answers with.
async fn ask(addr: &str, command: &Command) -> i32 {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let (mut output, mut input) = (BytesMut::new(), BytesMut::new());
    encode(command, Encoding::Json, &mut output).unwrap();
    stream.write_all(&output).await.unwrap();
    loop {
        if let Some(answer) = Decoder::default().decode(&mut input).unwrap() {
            return answer.code;
        }
        assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0, "{addr} closes");
    }
}

async fn java_and_weft_share_a_group(rocketmq: &RocketMq) {
    let source = Running::bridge(rocketmq, "shared-out", &[("shared/#", "Shared")], &[]).await;
    let mut sent = 0;
    // Sixteen topics are in all of the four queues.
    let mut send = async |count: usize| {
        for _ in 0..count {
            source.publish(&format!("shared/{}", sent % 64), &sent.to_string());
            sent += 1;
        }
        source.until_acked(sent).await;
        (0..sent).map(|n| n.to_string()).collect::<BTreeSet<_>>()
    };
    let all = send(64).await;
    let weft = Running::like(rocketmq, "shared", shared()).await;
    until("Weft has what is there", || weft.bodies().is_superset(&all)).await;

    let java = Java::consume(rocketmq, "shared-group", "Shared");
    let alone = until_some(&mut send, || java.bodies()).await;
    let all = send(256).await;
    until("both have all", || weft.bodies().union(&java.bodies()).count() == all.len()).await;
    let new = |bodies: BTreeSet<String>| bodies.difference(&alone).count();
    assert!(new(java.bodies()) >= 64 && new(weft.bodies()) >= 64, "{} in Java", new(java.bodies()));

    // A process that dies is missed at once.
    let of_java = java.bodies();
    drop(java);
    let killed = Instant::now();
    let all = send(64).await;
    until("Weft takes over", || weft.bodies().union(&of_java).count() == all.len()).await;
    eprintln!("Weft had Java's queues {:?} after it was killed", killed.elapsed());

    // Another Weft in the group, and the first one goes.
    let other = Running::like(rocketmq, "shared", shared()).await;
    let alone = until_some(&mut send, || other.bodies()).await;
    let all = send(256).await;
    let hubs = [weft.hub.clone(), other.hub.clone()];
    let together = || {
        let [one, two] = hubs.each_ref().map(bodies);
        of_java.iter().chain(&one).chain(&two).collect::<BTreeSet<_>>().len()
    };
    until("two Wefts have all", || together() == all.len()).await;
    let new = |running: &Running| running.bodies().difference(&alone).count();
    assert!(new(&weft) >= 64 && new(&other) >= 64, "{} and {}", new(&weft), new(&other));
    weft.stop().await;
    let stopped = Instant::now();
    let all = send(64).await;
    until("the other takes over", || together() == all.len()).await;
    eprintln!("the other Weft had all queues {:?} after the first stopped", stopped.elapsed());
    other.stop().await;
    source.stop().await;
}

async fn what_is_refused_comes_again_and_dies_at_last(rocketmq: &RocketMq) {
    let refused = |kind| Answer::Refused(Reject::new(kind, "the test says so"));
    // Without tags, a message has no topic here.
    rocketmq.send("Refused", &[], &["no topic".to_owned()]);
    let options = BridgeOptions { retries: 2, ..inward(&[in_rule("Refused", "{tags}")]) };
    let bridge = Running::like(rocketmq, "refused", options).await;
    bridge.hub.answer_next(refused(RejectKind::Denied));
    rocketmq.send("Refused", &["TAGS=a"], &["later".to_owned()]);
    let again = bridge.until_published(2).await;
    for publish in &again {
        assert_eq!((publish.event.topic().as_str(), &publish.event.data()[..]), ("a", &b"later"[..]));
    }
    // Three times, as it comes again twice.
    for _ in 0..3 {
        bridge.hub.answer_next(refused(RejectKind::Denied));
    }
    rocketmq.send("Refused", &["TAGS=a"], &["never".to_owned()]);
    bridge.until_published(5).await;
    let dead: BTreeSet<String> = consume(rocketmq, "java-dead", "%DLQ%weft-bridge-refused", 2)
        .into_iter()
        .map(|message| message.body)
        .collect();
    assert_eq!(dead, BTreeSet::from(["no topic".to_owned(), "never".to_owned()]));
    assert_eq!(bridge.hub.published().len(), 5);
    bridge.stop().await;
}

async fn brokers_leave_out_what_a_rule_does_not_want(rocketmq: &RocketMq) {
    let tags = InRule { tags: Some("go || stop".into()), ..in_rule("Tagged", "tagged/{tags}") };
    let sql = InRule { sql: Some("n > 3 AND region = 'eu'".into()), ..in_rule("Priced", "priced") };
    let bridge = Running::like(rocketmq, "filters", inward(&[tags, sql])).await;
    for (tag, body) in [("go", "1"), ("wait", "2"), ("stop", "3"), ("Stop", "4")] {
        rocketmq.send("Tagged", &[&format!("TAGS={tag}")], &[body.to_owned()]);
    }
    for (n, region) in [("3", "eu"), ("4", "us"), ("5", "eu")] {
        let properties = [format!("n={n}"), format!("region={region}")];
        let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
        rocketmq.send("Priced", &properties, &[format!("{n} in {region}")]);
    }
    let wanted: BTreeSet<String> = ["1", "3", "5 in eu"].map(str::to_owned).into();
    until("what is wanted came", || bridge.bodies().is_superset(&wanted)).await;
    assert_eq!(bridge.bodies(), wanted);
    bridge.stop().await;
}

async fn a_new_group_begins_where_it_is_told_to(rocketmq: &RocketMq, version: &str) {
    rocketmq.send("Old", &[], &["one".to_owned()]);
    let between = u64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
    )
    .unwrap();
    rocketmq.send("Old", &[], &["two".to_owned()]);
    for (name, start, expected) in [
        ("start-first", Start::First, &["one", "two"][..]),
        ("start-at", Start::At(between), &["two"]),
        ("start-last", Start::Last, &["three"]),
    ] {
        let options = BridgeOptions { start, ..inward(&[in_rule("Old", "old")]) };
        let bridge = Running::like(rocketmq, name, options).await;
        let mut sent = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(300));
        while !expected.iter().all(|body| bridge.bodies().contains(*body)) {
            tick.tick().await;
            // Those that come too early for a group that begins at the end are not for it.
            if start == Start::Last {
                sent += 1;
                rocketmq.send("Old", &[], &["three".to_owned()]);
            }
            assert!(sent < 20, "{name}: {:?}", bridge.bodies());
        }
        let all: BTreeSet<String> = expected.iter().map(|body| (*body).to_owned()).collect();
        // A broker of 4.9 says of a young topic that the group has consumed nothing.
        if start == Start::First || !version.starts_with('4') {
            assert_eq!(bridge.bodies(), all, "{name}");
        }
        bridge.stop().await;
    }
}

async fn a_queue_changes_hands_without_being_in_two(rocketmq: &RocketMq) {
    let source = Running::bridge(rocketmq, "locked-out", &[("locked/#", "Locked")], &[]).await;
    let ordered = || BridgeOptions {
        group: Some("locked-group".into()),
        ordered: true,
        ..inward(&[in_rule("Locked", "{origin}")])
    };
    let send = async |from: usize, to: usize| {
        for n in from..to {
            source.publish(&format!("locked/{}", n % 64), &n.to_string());
        }
        source.until_acked(to).await;
    };
    send(0, 64).await;
    let first = Running::like(rocketmq, "locked-1", ordered()).await;
    until("the first has all", || first.bodies().len() == 64).await;
    // Four queues, and each has something that is not kept.
    for _ in 0..4 {
        first.hub.answer_next(Answer::Late);
    }
    send(64, 128).await;
    until("something of each queue is on its way", || first.batches() >= 8).await;
    let second = Running::like(rocketmq, "locked-2", ordered()).await;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..15 {
        tick.tick().await;
        assert_eq!(second.hub.published().len(), 0, "the first still has the locks");
    }
    first.hub.release_late();
    until("they have all", || first.bodies().union(&second.bodies()).count() == 128).await;
    send(128, 256).await;
    until("they have all", || first.bodies().union(&second.bodies()).count() == 256).await;
    assert!(second.bodies().len() >= 32, "{} in the second", second.bodies().len());
    let twice: Vec<String> = first.bodies().intersection(&second.bodies()).cloned().collect();
    assert_eq!(twice, [""; 0], "committed before the lock is given back");
    for running in [&first, &second] {
        let mut topics: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for publish in running.hub.published() {
            let number = String::from_utf8_lossy(publish.event.data()).parse().unwrap();
            topics.entry(publish.event.topic().to_string()).or_default().push(number);
        }
        assert!(topics.values().all(|numbers| numbers.is_sorted()), "{topics:?}");
    }
    first.stop().await;
    second.stop().await;
    source.stop().await;
}

async fn nodes_that_broadcast_get_everything(rocketmq: &RocketMq) {
    let node = |name: &str| ClusterOptions { node: Some(name.to_owned()), ..cluster(rocketmq) };
    let options = || BridgeOptions { broadcast: true, ..inward(&[in_rule("Cast", "cast")]) };
    let start = |name: &str| Running::launch(&node(name), "cast", &options());
    let (one, two) = (start("n1"), start("n2"));
    let lines: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    rocketmq.send("Cast", &[], &lines);
    let all: BTreeSet<String> = lines.into_iter().collect();
    until("both have all", || one.bodies() == all && two.bodies() == all).await;
    one.until_health(|reason| reason.is_none()).await;
    one.stop().await;
    rocketmq.send("Cast", &[], &["more".to_owned()]);
    // It goes on where it was.
    let one = start("n1");
    until("one has more", || one.bodies() == BTreeSet::from(["more".to_owned()])).await;
    one.stop().await;
    two.stop().await;
}

// -------------------------------------------------------------- helpers

fn inward(rules: &[InRule]) -> BridgeOptions {
    BridgeOptions { cluster: "main".into(), inward: rules.to_vec(), ..BridgeOptions::default() }
}

fn shared() -> BridgeOptions {
    BridgeOptions { group: Some("shared-group".into()), ..inward(&[in_rule("Shared", "{origin}")]) }
}

fn bodies(hub: &FakeHub) -> BTreeSet<String> {
    hub.published().iter().map(|publish| String::from_utf8_lossy(publish.event.data()).into_owned()).collect()
}

/// Sends until somebody has something; gives all that was sent by then.
async fn until_some(
    send: &mut impl AsyncFnMut(usize) -> BTreeSet<String>,
    had: impl Fn() -> BTreeSet<String>,
) -> BTreeSet<String> {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..300 {
        tick.tick().await;
        let all = send(16).await;
        if !had().is_empty() {
            return all;
        }
    }
    panic!("nothing came");
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let waiting = async {
        while !done() {
            tick.tick().await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

impl Running {
    /// A bridge with these options, once it is up.
    async fn like(rocketmq: &RocketMq, name: &str, options: BridgeOptions) -> Self {
        let running = Self::launch(&cluster(rocketmq), name, &options);
        running.until_health(|reason| reason.is_none()).await;
        running
    }

    fn bodies(&self) -> BTreeSet<String> {
        bodies(&self.hub)
    }

    /// Batches that were published so far.
    fn batches(&self) -> usize {
        self.hub.calls().iter().filter(|call| matches!(call, Call::Publish { .. })).count()
    }
}

/// A Java consumer; killed when it is dropped.
struct Java {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Java {
    fn consume(rocketmq: &RocketMq, group: &str, topic: &str) -> Self {
        let mut child = rocketmq
            .java(&["RmqConsume", rocketmq.name_server(), group, "0", topic])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (output, shared) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(output).lines().map_while(Result::ok) {
                shared.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    fn bodies(&self) -> BTreeSet<String> {
        self.lines.lock().unwrap().iter().map(|line| message(line).body).collect()
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
