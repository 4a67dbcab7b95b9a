//! Data folders that were written by the Wefts that were shipped: what users of them see when this one opens them.
//!
//! `fixtures/data/*` are such folders, one for each version of the core's state, written by the steps of [`written`] and ended
//! by SIGKILL. `WEFT_WRITE_FIXTURE=NAME` makes this test write `fixtures/data/NAME`: do that when a format changes, and leave
//! the older ones as they are.

use std::path::{Path, PathBuf};

use tests::raw::Client;
use tests::weft::{Setup, root};
use tests::wire::{self, Ack, Connect, Packet, Property, Publish, SESSION_EXPIRY};
use tests::{Weft, eventually};

/// Nothing in a fixture may grow too old.
const CONFIG: &str = "[store]\nsegment_bytes = \"64 KiB\"\nprewrite_bytes = 0\nretain_age_s = 0\n";

/// A client whose session never ends.
fn forever(client: &str) -> Connect {
    let connect = Connect::v5(client).with(Property::Four(SESSION_EXPIRY, u32::MAX));
    Connect { clean: false, ..connect }
}

async fn connect(weft: &Weft, connect: &Connect) -> Client {
    Client::connect(weft.mqtt, connect).await.unwrap().0
}

async fn publish(weft: &Weft, messages: &[(&str, &str, u8, bool)]) {
    let mut writer = connect(weft, &Connect::v5("writer")).await;
    for (topic, data, qos, retain) in messages {
        writer.publish(Publish { retain: *retain, ..Publish::new(topic, *data, *qos) }).await.unwrap();
    }
    writer.disconnect().await;
}

/// A Weft that was killed with something of everything in its log: before its checkpoint, and behind it.
async fn written() -> Weft {
    let mut weft = Setup::new().config(CONFIG).start().await;
    let mut stays = connect(&weft, &forever("stays")).await;
    stays.subscribe(&[("plant/#", 1)]).await;
    stays.disconnect().await;
    for worker in ["worker-1", "worker-2"] {
        let mut client = connect(&weft, &forever(worker)).await;
        client.subscribe(&[("$share/group/work", 1)]).await;
        client.disconnect().await;
    }
    // A subscriber that has the half of an exactly-once delivery: PUBREC was taken, PUBCOMP never sent.
    let mut twice = connect(&weft, &forever("twice")).await;
    twice.subscribe(&[("exact", 2)]).await;
    publish(&weft, &[("plant/1", "first", 1, false), ("exact", "one", 2, false), ("work", "1", 1, false)])
        .await;
    let Packet::Publish(one) = twice.next().await else { panic!("no PUBLISH") };
    twice.send(&wire::ack(Ack::PubRec, one.id)).await.unwrap();
    assert!(matches!(twice.next().await, Packet::Ack(Ack::PubRel, id, _) if id == one.id));
    drop(twice);
    // A publisher that has the half of an exactly-once publish: PUBREC came, PUBREL never left.
    let mut half = connect(&weft, &forever("half")).await;
    half.send(&half_publish(false)).await.unwrap();
    assert!(matches!(half.next().await, Packet::Ack(Ack::PubRec, 7, _)));
    drop(half);
    publish(&weft, &[("state/a", "1", 1, true), ("state/b", "2", 1, true), ("state/b", "", 1, true)]).await;
    assert!(weft.terminate().await.0.success());

    weft.restart().await;
    publish(&weft, &[("plant/2", "second", 2, false), ("work", "2", 1, false), ("exact", "two", 2, false)])
        .await;
    publish(&weft, &[("state/c", "3", 2, true), ("plant/binary", "\u{0}ü", 1, false)]).await;
    let will = Publish::new("wills/lost", "gone", 1).retained();
    let willing = connect(&weft, &Connect::v5("willing").will(will)).await;
    weft.kill().await;
    drop(willing);
    weft
}

fn half_publish(again: bool) -> Vec<u8> {
    let publish = Publish { id: 7, dup: again, ..Publish::new("plant/half", "half", 2) };
    publish.encode(wire::Version::V5)
}

/// What the users of that folder are owed.
async fn check(folder: &Path, name: &str) {
    let weft = Setup::new().config(CONFIG).data(folder).start().await;
    let (mut stays, present) = Client::connect(weft.mqtt, &forever("stays")).await.unwrap();
    assert!(present, "{name}: the session is there");
    for wanted in ["plant/1 first", "plant/half half", "plant/2 second", "plant/binary \u{0}ü"] {
        let message = stays.message().await.unwrap().expect("a message");
        let text = format!("{} {}", message.topic, String::from_utf8(message.payload).unwrap());
        assert_eq!((&*text, message.qos), (wanted, 1), "{name}");
    }
    let (mut twice, present) = Client::connect(weft.mqtt, &forever("twice")).await.unwrap();
    assert!(present);
    let Packet::Ack(Ack::PubRel, id, _) = twice.next().await else {
        panic!("{name}: PUBREL is sent again first")
    };
    twice.send(&wire::ack(Ack::PubComp, id)).await.unwrap();
    let two = twice.message().await.unwrap().expect("what came meanwhile");
    assert_eq!(
        (&*two.topic, &*two.payload, two.qos),
        ("exact", &b"two"[..], 2),
        "{name}: and not the first again"
    );

    let (mut half, present) = Client::connect(weft.mqtt, &forever("half")).await.unwrap();
    assert!(present);
    half.send(&half_publish(true)).await.unwrap();
    assert!(matches!(half.next().await, Packet::Ack(Ack::PubRec, 7, _)), "{name}");
    half.send(&wire::ack(Ack::PubRel, 7)).await.unwrap();
    assert!(matches!(half.next().await, Packet::Ack(Ack::PubComp, 7, _)), "{name}");
    publish(&weft, &[("plant/after", "after", 1, false)]).await;
    let after = stays.message().await.unwrap().expect("a message");
    assert_eq!(after.topic, "plant/after", "{name}: the repeat was known, and not delivered");

    let (mut worker, present) = Client::connect(weft.mqtt, &forever("worker-2")).await.unwrap();
    assert!(present);
    for wanted in ["1", "2"] {
        let message = worker.message().await.unwrap().expect("work");
        assert_eq!((&*message.topic, message.payload), ("work", wanted.into()), "{name}");
    }

    let retained = async |filter: &str| {
        let mut reader = connect(&weft, &Connect::v5("reader")).await;
        reader.subscribe(&[(filter, 1), ("end", 1)]).await;
        publish(&weft, &[("end", "", 1, false)]).await;
        let mut found = Vec::new();
        loop {
            let message = reader.message().await.unwrap().expect("a message");
            if message.topic == "end" {
                break found;
            }
            assert!(message.retain);
            found.push(format!("{}={}", message.topic, String::from_utf8(message.payload).unwrap()));
            found.sort();
        }
    };
    assert_eq!(retained("state/#").await, ["state/a=1", "state/c=3"], "{name}");
    let will = async || retained("wills/#").await.contains(&"wills/lost=gone".to_owned()).then_some(());
    eventually("the will of the client that was lost", will).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
    }
}

fn fixtures() -> PathBuf {
    root().join("tests/tests/fixtures/data")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_this_weft_wrote() {
    let weft = written().await;
    if let Some(name) = std::env::var_os("WEFT_WRITE_FIXTURE") {
        copy(&weft.data(), &fixtures().join(name));
    }
    check(&weft.data(), "just written").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_older_wefts_wrote() {
    let entries = std::fs::read_dir(fixtures()).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    for folder in folders {
        let place = tempfile::tempdir().unwrap();
        copy(&folder, &place.path().join("data"));
        check(&place.path().join("data"), &folder.display().to_string()).await;
    }
}
