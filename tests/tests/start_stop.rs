//! How Weft starts, what it says when it cannot, and how it stops.

use std::time::Duration;

use tests::raw::Client;
use tests::real::{Tool, needs};
use tests::util::free_address;
use tests::weft::{Setup, program};
use tests::wire::{Connect, Packet, Publish};
use tests::{Weft, eventually};
use tokio::process::Command;

#[tokio::test]
async fn it_says_what_listens_where() {
    let mut weft = Weft::start().await;
    assert_eq!(weft.get("/live").await.unwrap().0, 200);
    assert_eq!(weft.get("/ready").await.unwrap().0, 200);
    let (mqtt, http) = (weft.mqtt.to_string(), weft.http.to_string());
    let (status, took, output) = weft.terminate().await;
    assert!(output.contains(&mqtt) && output.contains(&http), "{output}");
    assert!(status.success(), "SIGTERM ends with {status}");
    assert!(took < Duration::from_secs(10), "{took:?} to stop with nothing to do");
}

#[tokio::test]
async fn sigterm_tells_clients_and_keeps_their_sessions() {
    let mut weft = Weft::start().await;
    let connect = Connect::v5("stays").persistent();
    let (mut client, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
    client.subscribe(&[("t", 2)]).await;
    client.publish(Publish::new("elsewhere", "x", 2)).await.unwrap();
    let (status, took, _) = weft.terminate().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    assert_eq!(client.closed().await, Some(0x8b), "DISCONNECT says that the server shuts down");
    weft.restart().await;
    let (_, present) = Client::connect(weft.mqtt, &connect).await.unwrap();
    assert!(present);
}

#[tokio::test]
async fn a_data_folder_serves_one_weft() {
    let weft = Weft::start().await;
    let (status, output) = Setup::new().data(weft.data()).start_and_fail().await;
    assert!(!status.success());
    let folder = weft.data().display().to_string();
    assert!(output.contains(&folder) && (output.contains("lock") || output.contains("in use")), "{output}");
    assert_works(&weft).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let weft = Weft::start().await;
    for (mqtt, http) in [(weft.mqtt, free_address()), (free_address(), weft.http)] {
        let taken = if mqtt == weft.mqtt { mqtt } else { http };
        let (status, output) = Setup::new().at(mqtt, http).start_and_fail().await;
        assert!(!status.success());
        assert!(output.contains(&taken.to_string()) && output.to_lowercase().contains("in use"), "{output}");
    }
    assert_works(&weft).await;
}

#[tokio::test]
async fn a_mistake_in_the_file_is_shown_with_line_and_hint() {
    // What is in the file, and what the message has to hold beside the file's name.
    let mistakes = [
        ("\n\n[mqtt]\ninflight_maxx = 5\n", ["4", "inflight_maxx", "inflight_max"]),
        ("[mqtt]\ninflight_max = \"many\"\n", ["2", "inflight_max", "many"]),
        ("[mqtt\n", ["1", "mqtt", "]"]),
        ("[nowhere]\na = 1\n", ["1", "nowhere", "mqtt"]),
    ];
    for (text, expected) in mistakes {
        let (status, output) = Setup::new().config(text).start_and_fail().await;
        assert!(!status.success(), "{text:?} was taken");
        for part in expected.into_iter().chain(["weft.toml"]) {
            assert!(output.contains(part), "{text:?}: no {part:?} in\n{output}");
        }
    }
}

#[tokio::test]
async fn weft_check_judges_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weft.toml");
    let hook = "[hook.h]\nurl = \"https://example.org\"\ntopics = [\"a\"]\ntoken_file = \"/no/token\"\n";
    for (text, wrong) in
        [("", ""), ("[mqtt]\nno_such_key = 1\n", "no_such_key"), (hook, "token_file /no/token")]
    {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(program()).arg("check").arg(&file).output().await.unwrap();
        assert_eq!(output.status.success(), wrong.is_empty(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(wrong), "{output:?}");
    }
}

#[tokio::test]
async fn weft_pub_says_why_it_did_not_work() {
    let weft = Weft::start().await;
    for (address, topic, why) in [
        (weft.mqtt, "$weft/x", "the server refused: topic name invalid (reason code 0x90)"),
        (free_address(), "x", "is Weft running there? --addr says where"),
    ] {
        let mut command = Command::new(program());
        command.args(["pub", "--addr", &address.to_string(), topic, "hello"]);
        let output = command.output().await.unwrap();
        assert!(!output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
}

/// README's way to try it from the shell.
#[tokio::test]
async fn weft_pub_reaches_weft_sub() {
    let weft = Weft::start().await;
    let address = weft.mqtt.to_string();
    let mut sub = Command::new(program());
    sub.args(["sub", "--mqtt", &address, "try/#"]);
    let mut sub = tests::Process::start("weft sub", sub, |_| ());
    let output = sub.output();
    eventually("weft sub shows what weft pub sent", || async {
        let sent =
            Command::new(program()).args(["pub", "--mqtt", &address, "try/it", "hello"]).output().await;
        let sent = sent.unwrap();
        assert!(sent.status.success(), "{sent:?}");
        output.text().contains("hello").then_some(())
    })
    .await;
    sub.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_loses_nothing() {
    if !needs(&[Tool::Mount]) {
        return;
    }
    let disk = SmallDisk::mount("24m").await;
    let mut weft = Setup::new().data(disk.folder.path().join("data")).start().await;
    let connect = Connect::v5("reader").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
    reader.subscribe(&[("full", 1)]).await;
    reader.disconnect().await;
    let (mut other_reader, _) = Client::connect(weft.mqtt, &Connect::v5("other-reader")).await.unwrap();
    other_reader.subscribe(&[("other", 0)]).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    let mut kept = 0u32;
    let refused = loop {
        let data = format!("{kept} {}", "x".repeat(64 * 1024));
        match writer.publish(Publish::new("full", data, 1)).await {
            Ok(()) => kept += 1,
            Err(error) => break error.to_string(),
        }
        assert!(kept < 1000, "24 MiB hold no {kept} messages of 64 KiB");
    };
    assert!(kept > 50, "refused after {kept}: {refused}");
    weft.until_ready_says(503, "").await;
    let (mut other, _) = Client::connect(weft.mqtt, &Connect::v5("other")).await.unwrap();
    other.publish(Publish::new("other", "still here", 0)).await.unwrap();
    assert_eq!(other_reader.message().await.unwrap().unwrap().payload, b"still here");
    disk.grow("256m").await;
    weft.kill().await;
    weft.restart().await;
    let (mut reader, present) = Client::connect(weft.mqtt, &connect).await.unwrap();
    assert!(present);
    for n in 0..kept {
        let message = reader.message().await.unwrap().expect("a message");
        assert!(message.payload.starts_with(format!("{n} ").as_bytes()), "{n} is not there");
    }
    assert_works(&weft).await;
}

/// A file system with little room.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    async fn mount(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "weft-test"]).arg(folder.path());
        assert!(command.status().await.unwrap().success(), "mount");
        Self { folder }
    }

    async fn grow(&self, size: &str) {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,size={size}")]).arg(self.folder.path());
        assert!(command.status().await.unwrap().success(), "mount -o remount");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: Weft may still have files open there.
        std::process::Command::new("umount").arg("-l").arg(self.folder.path()).status().unwrap();
    }
}

/// A message gets from one client to another.
async fn assert_works(weft: &Weft) {
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("works-reader")).await.unwrap();
    reader.subscribe(&[("works", 1)]).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v4("works-writer")).await.unwrap();
    writer.publish(Publish::new("works", "yes", 1)).await.unwrap();
    let Packet::Publish(message) = reader.next().await else { panic!("no PUBLISH") };
    assert_eq!(message.payload, b"yes");
}
