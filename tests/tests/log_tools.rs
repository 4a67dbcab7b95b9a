//! `weft log` on real folders: of a Weft that runs, of one that was killed, damaged ones, empty ones and wrong ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use event::event::parse_rfc3339;
use serde_json::Value;
use tests::PATIENCE;
use tests::Weft;
use tests::raw::Client;
use tests::weft::{Setup, program};
use tests::wire::{Connect, Publish};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// Exit code, standard output and standard error of `weft log` on a folder.
async fn log(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    with_input(dir, arguments, "").await
}

async fn with_input(dir: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(program());
    command.arg("log").args(arguments).arg("--data").arg(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await.unwrap_or(()) });
    let output = child.wait_with_output().await.unwrap();
    writing.await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn rows(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A Weft with small segments, with events of every kind in its log.
async fn filled() -> Weft {
    let config = "[store]\nsegment_bytes = \"64 KiB\"\nprewrite_bytes = \"16 KiB\"\n[core]\ncheckpoint_bytes = \"64 KiB\"\n";
    let weft = Setup::new().config(config).start().await;
    let stays = Connect::v5("stays").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &stays).await.unwrap();
    reader.subscribe(&[("plant/+/temperature", 1)]).await;
    reader.disconnect().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("sensor 7")).await.unwrap();
    for n in 0..150u32 {
        let data = format!("{{\"n\": {n}, \"pad\": \"{}\"}}", "x".repeat(1500));
        writer
            .publish(Publish::new(&format!("plant/{}/temperature", n % 3), data, 1 + (n % 2) as u8))
            .await
            .unwrap();
    }
    writer.publish(Publish::new("state", "up", 1).retained()).await.unwrap();
    writer.publish(Publish::new("bytes", [0xff, 0, 10, 13, 0x1b], 1)).await.unwrap();
    writer.publish(Publish::new("spaces", " {\"a\":\n 1} \n", 1)).await.unwrap();
    let event = r#"{"specversion":"1.0","id":"e-1","source":"/ovens/3","type":"oven.hot","subject":"ovens/3","time":"2026-11-24T04:00:00.5+05:30","dataschema":"x:y","datacontenttype":"text/xml","traceparent":"00-1","level":-5,"on":true,"data":"<a/>"}"#;
    let sent = reqwest::Client::new()
        .post(format!("http://{}/events", weft.http))
        .header("content-type", "application/cloudevents+json")
        .body(event)
        .send();
    assert_eq!(sent.await.unwrap().status(), 200);
    weft
}

/// Content of all files of a data folder.
fn state(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    state(dir).into_keys().filter(|path| path.extension().is_some_and(|name| name == "log")).collect()
}

fn change(path: &Path, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 0x20;
    std::fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_log_is_looked_at_and_left_as_it_is() {
    let mut weft = filled().await;
    let dir = weft.data();
    // Weft itself may write to the last segment at any time, and to nothing else while no event comes.
    let active = segments(&dir).pop().unwrap();
    let at_rest = || state(&dir).into_iter().filter(|(path, _)| *path != active).collect::<Vec<_>>();
    let before = at_rest();
    let (code, table, _) = log(&dir, &["ls"]).await;
    assert!(code == 0 && table.starts_with("FROM") && table.contains("CHECKPOINT"), "{table}");
    let (_, json, _) = log(&dir, &["ls", "--json"]).await;
    let all = rows(&json);
    let of = |kind: &str| all.iter().filter(|row| row["kind"] == kind).cloned().collect::<Vec<_>>();
    let sum = |name: &str| of("segment").iter().map(|row| row[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("events"), sum("damaged")), (154, 0));
    assert!(sum("records") > 154, "notes of the session, too");
    assert_eq!(of("segment").len(), segments(&dir).len());
    assert!(of("segment").windows(2).all(|pair| pair[0]["to"] == pair[1]["from"]), "{json}");
    assert!(!of("checkpoint").is_empty() && of("checkpoint").iter().all(|row| row["whole"] == true));

    let (code, text, _) = log(&dir, &["cat"]).await;
    assert!(
        code == 0 && text.contains("session") && text.contains("\"plant/+/temperature\" (QoS 1)"),
        "{text}"
    );
    assert!(text.contains("  bytes  sensor 7  5 B  \\xff\\u{0}\\n\\r\\u{1b}\n"), "shown safely");
    assert!(text.contains("state  sensor 7  2 B  up  [retained]"));
    let (_, some, _) = log(&dir, &["cat", "--json", "--topic", "plant/1/#", "--limit", "5"]).await;
    let some = rows(&some);
    assert_eq!(some.len(), 5);
    assert!(some.iter().all(|row| row["event"]["wefttopic"] == "plant/1/temperature"), "{some:?}");
    let position = |row: &Value| row["position"].to_string();
    let range =
        ["cat", "--json", "--topic", "plant/1/#", "--from", &position(&some[1]), "--to", &position(&some[4])];
    let (_, again, _) = log(&dir, &range).await;
    assert_eq!(rows(&again), some[1..4]);
    let time = some[2]["received"].as_str().unwrap();
    let (_, later, _) = log(&dir, &["cat", "--json", "--from", time]).await;
    // As text they do not compare: zeros at the end of a fraction are left out.
    let ms = |text: &str| parse_rfc3339(text).unwrap();
    assert!(rows(&later).iter().all(|row| ms(row["received"].as_str().unwrap()) >= ms(time)));
    let (_, earlier, _) = log(&dir, &["cat", "--json", "--topic", "#", "--to", time]).await;
    assert_eq!(rows(&earlier).len() + rows(&later).len(), 154);
    assert_eq!(log(&dir, &["cat", "--from", "1h", "--topic", "#"]).await.1.lines().count(), 154);
    assert_eq!(log(&dir, &["cat", "--to", "1h"]).await.1, "");

    let (code, text, _) = log(&dir, &["verify"]).await;
    assert!(code == 0 && text.contains("fine: every record and every checkpoint is whole"), "{text}");
    assert!(at_rest() == before, "looking changed the folder");
    for arguments in [&["repair"][..], &["repair", "--dry-run"], &["import", "-"]] {
        let (code, _, error) = log(&dir, arguments).await;
        assert!(code == 1 && error.contains("a weft runs on") && error.contains("stop it"), "{error}");
    }
    assert_eq!(weft.metric("weft_core_events_refused_total").await.unwrap_or(0.0), 0.0);
    assert!(weft.terminate().await.0.success());
}

/// Who looks while events pour in sees a whole log each time, and never fewer events than were acknowledged before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_under_load_is_whole_whenever_it_is_looked_at() {
    let weft = filled().await;
    let dir = weft.data();
    let (acked, seen) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), 8);
    let count = std::sync::Arc::clone(&acked);
    let address = weft.mqtt;
    let load = tokio::spawn(async move {
        let (mut writer, _) = Client::connect(address, &Connect::v5("load")).await.unwrap();
        loop {
            writer.publish(Publish::new("load", vec![b'x'; 3000], 1)).await.unwrap();
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    for _ in 0..seen {
        let least = acked.load(std::sync::atomic::Ordering::SeqCst);
        let (code, text, _) = log(&dir, &["verify"]).await;
        assert_eq!(code, 0, "{text}");
        let (_, lines, error) = log(&dir, &["export", "--topic", "load"]).await;
        assert!(lines.lines().count() >= least && error.starts_with("exported"), "{error}");
    }
    load.abort();
    assert!(acked.load(std::sync::atomic::Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_comes_back() {
    let mut weft = filled().await;
    let dir = weft.data();
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("events.jsonl"), folder.path().join("data"));
    let (code, out, error) = log(&dir, &["export", "-o", file.to_str().unwrap()]).await;
    assert_eq!((code, &*out, &*error), (0, "", "exported 154 events\n"));
    let first = std::fs::read_to_string(&file).unwrap();
    let events = rows(&first);
    let find = |topic: &str| events.iter().find(|event| event["wefttopic"] == topic).unwrap();
    assert_eq!(find("state")["weftretain"], true);
    assert_eq!((&find("ovens/3")["data"], &find("ovens/3")["level"]), (&"<a/>".into(), &(-5).into()));
    assert_eq!(find("bytes")["data_base64"], "/wAKDRs=");
    weft.kill().await;

    let (code, out, error) = log(&other, &["import", file.to_str().unwrap()]).await;
    assert_eq!((code, &*out, &*error), (0, "", "imported 154 events\n"));
    let (_, second, _) = log(&other, &["export"]).await;
    assert!(second == first, "an export of the import differs");

    // What users see of it: retained events, replay, plain publishes that are still plain.
    let weft = Setup::new().data(&other).start().await;
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v4("reader")).await.unwrap();
    reader.subscribe(&[("state", 1)]).await;
    let state = reader.message().await.unwrap().expect("the retained event");
    assert!(state.retain && state.payload == b"up", "plain, not a CloudEvent in JSON");
    let (code, _, error) = log(&other, &["import", "-"]).await;
    assert!(code == 1 && error.contains("a weft runs on"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_get_what_is_imported_and_bad_lines_are_named() {
    let mut weft = Weft::start().await;
    let stays = Connect::v5("stays").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &stays).await.unwrap();
    reader.subscribe(&[("ovens/#", 1)]).await;
    reader.disconnect().await;
    assert!(weft.terminate().await.0.success());
    let event = |id: u32, topic: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/o","type":"t","wefttopic":"{topic}","data":{id}}}"#
        )
    };
    let lines = [
        event(1, "ovens/1"),
        "no json".to_owned(),
        String::new(),
        event(2, "ovens/#"),
        event(3, "$SYS/ovens"),
        event(4, "ovens/4"),
        "{\"specversion\":\"1.0\"}".to_owned(),
    ];
    let text = lines.join("\r\n");
    let (code, _, error) = with_input(&weft.data(), &["import", "-"], &text).await;
    let told: Vec<&str> = error.lines().collect();
    assert_eq!((code, told.len()), (1, 5), "{error}");
    assert!(told[0].starts_with("weft: line 2: not a CloudEvent in JSON"), "{error}");
    assert!(
        told[1].starts_with("weft: line 4: its topic")
            && told[2].starts_with("weft: line 7: attribute \"id\"")
    );
    assert!(told[3].starts_with("weft: line 5: not allowed to publish"), "{error}");
    assert_eq!(told[4], "imported 2 events; 4 lines were left out");
    let (code, _, error) = with_input(&weft.data(), &["import", "--strict", "-"], &text).await;
    assert!(code == 1 && error.contains("1 event was kept, then: line 2: not a CloudEvent"), "{error}");
    let (code, _, error) = log(&weft.data(), &["import", "/nowhere.jsonl"]).await;
    assert!(code == 1 && error.contains("cannot read /nowhere.jsonl"), "{error}");

    weft.restart().await;
    let (mut reader, present) = Client::connect(weft.mqtt, &stays).await.unwrap();
    assert!(present);
    for wanted in ["1", "4", "1"] {
        assert_eq!(reader.message().await.unwrap().expect("an event").payload, wanted.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_told_and_put_aside() {
    let mut weft = filled().await;
    let dir = weft.data();
    assert!(weft.terminate().await.0.success());
    let (_, before, _) = log(&dir, &["export"]).await;
    let paths = segments(&dir);
    // Bytes of a record, the header of another segment, a checkpoint, and a tail that no sync confirmed.
    change(&paths[1], 9000);
    change(&paths[2], 30);
    let mut checkpoints: Vec<_> = state(&dir).into_keys().collect();
    checkpoints.retain(|path| path.extension().is_some_and(|name| name == "checkpoint"));
    change(checkpoints.last().unwrap(), 60);
    let damaged = state(&dir);

    let (code, text, _) = log(&dir, &["verify"]).await;
    assert_eq!(code, 1, "{text}");
    for wanted in [
        "hold no whole record: what stood there is lost",
        "the header of",
        "the checkpoint at",
        "3 damaged places",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
    let (code, text, _) = log(&dir, &["ls"]).await;
    assert!(code == 0 && text.contains("2 damaged places"), "{text}");
    let (code, _, error) = log(&dir, &["cat"]).await;
    assert!(code == 1 && error.contains("damage:"), "{error}");
    let (code, lines, error) = log(&dir, &["export"]).await;
    assert!(
        code == 1 && error.contains("exported 153 events; 2 damaged places could not be read"),
        "{error}"
    );
    assert!(lines.lines().all(|line| before.contains(line)) && lines.lines().count() == 153);
    assert!(state(&dir) == damaged, "looking changed the folder");

    let (code, plan, _) = log(&dir, &["repair", "--dry-run"]).await;
    assert!(
        code == 0 && plan.contains("would: move") && plan.contains("would: write the header of"),
        "{plan}"
    );
    assert!(plan.contains("stays: positions"), "{plan}");
    let changed = |path: &PathBuf| path.file_name().is_some_and(|name| name != "lock");
    assert!(
        state(&dir)
            .into_iter()
            .filter(|(path, _)| changed(path))
            .eq(damaged.into_iter().filter(|(path, _)| changed(path)))
    );
    let (code, said, _) = log(&dir, &["repair"]).await;
    assert!(code == 0 && said.contains("damaged-1") && said.contains("repaired: the log opens"), "{said}");
    let (code, text, _) = log(&dir, &["verify"]).await;
    assert!(code == 1 && text.contains("1 damaged place;"), "what is lost stays lost: {text}");
    assert_eq!(log(&dir, &["export"]).await.1, lines);
    assert!(log(&dir, &["repair"]).await.1.contains("nothing to repair"));
    weft.restart().await;
    let (mut reader, present) = Client::connect(weft.mqtt, &Connect::v5("stays").persistent()).await.unwrap();
    assert!(
        present && reader.message().await.unwrap().is_some(),
        "the older checkpoint and the records behind it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_checkpoint_weft_starts_after_a_repair() {
    let mut weft = filled().await;
    let dir = weft.data();
    assert!(weft.terminate().await.0.success());
    for path in
        state(&dir).into_keys().filter(|path| path.extension().is_some_and(|name| name == "checkpoint"))
    {
        std::fs::write(path, "nothing").unwrap();
    }
    let (status, output) = Setup::new().data(&dir).start_and_fail().await;
    assert!(!status.success() && output.contains("no checkpoint"), "{output}");
    let (code, text, _) = log(&dir, &["verify"]).await;
    assert!(code == 1 && text.contains("weft does not start"), "{text}");
    assert_eq!(log(&dir, &["repair"]).await.0, 0);
    weft.restart().await;
    let (mut reader, present) = Client::connect(weft.mqtt, &Connect::v5("stays").persistent()).await.unwrap();
    assert!(present, "the log still has all of it");
    assert!(reader.message().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_a_note_and_no_damage() {
    let mut weft = filled().await;
    let dir = weft.data();
    weft.kill().await;
    let last = segments(&dir).pop().unwrap();
    let (_, json, _) = log(&dir, &["ls", "--json"]).await;
    let segment = rows(&json).into_iter().rfind(|row| row["kind"] == "segment").unwrap();
    let at = (segment["to"].as_u64().unwrap() - segment["from"].as_u64().unwrap()) as usize;
    let mut content = std::fs::read(&last).unwrap();
    content.resize(content.len().max(at + 100), 0);
    content[at..at + 40].fill(7);
    std::fs::write(&last, content).unwrap();
    let (code, text, _) = log(&dir, &["verify"]).await;
    assert!(code == 0 && text.contains("note: 40 B behind the end at"), "{text}");
    let (code, said, _) = log(&dir, &["repair"]).await;
    assert!(code == 0 && said.contains("will: cut 40 B"), "{said}");
    let (_, text, _) = log(&dir, &["verify"]).await;
    assert!(!text.contains("note:"), "{text}");
    assert_eq!(log(&dir, &["export"]).await.1.lines().count(), 154);
}

#[tokio::test]
async fn folders_that_are_no_log_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    for command in ["ls", "cat", "verify", "repair", "export"] {
        let (code, out, error) = log(dir, &[command]).await;
        assert!(code == 2 && out.is_empty() && error.contains("holds no log of weft"), "{command}: {error}");
        let (code, _, error) = log(&dir.join("nowhere"), &[command]).await;
        assert!(code == 2 && error.contains("nowhere") && error.contains("--data"), "{command}: {error}");
        assert_eq!(error.matches("No such file").count(), 1, "{error}");
    }
    assert_eq!(state(dir).len(), 1, "nothing was made");
    std::fs::write(dir.join("00000000000000000000.log"), vec![3; 900]).unwrap();
    let (code, _, error) = log(dir, &["verify"]).await;
    assert!(code == 1 && error.contains("no log of weft, or its header is damaged"), "{error}");
    for (arguments, wanted) in [
        (&["cat", "--from", "yesterday"][..], "no position"),
        (&["cat", "--topic", "a#"], "MQTT-4.7.1-1"),
        (&["import"], "<FILE>"),
    ] {
        let (code, _, error) = log(dir, arguments).await;
        assert!(code == 2 && error.contains(wanted), "{error}");
    }
}

/// `weft log cat | head` and Ctrl-C end without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_has_enough_is_no_error() {
    let weft = filled().await;
    for arguments in [&["cat"][..], &["export"], &["cat", "--json"]] {
        let mut command = Command::new(program());
        command.arg("log").args(arguments).arg("--data").arg(weft.data());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next_line().await.unwrap().is_some());
        drop(lines);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{arguments:?}");
    }
    let other = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.args(["log", "import", "-", "--data"]).arg(other.path().join("data"));
    let mut import = tests::Process::start("weft log import", command, |_| ());
    let line = r#"{"specversion":"1.0","id":"1","source":"/o","type":"t","data":1}"#;
    import.write(&format!("{line}\n").repeat(400)).await.unwrap();
    let lock = other.path().join("data/00000000000000000000.log");
    tests::eventually("the import has the log open", || async { lock.exists().then_some(()) }).await;
    import.signal("INT").await;
    let status = import.wait(PATIENCE).await;
    let text = import.output().text();
    assert!(status.code() == Some(1) && text.contains("stopped as asked"), "{status} {text}");
    let kept = log(&other.path().join("data"), &["export"]).await.1.lines().count();
    assert!(text.contains(&format!("{kept} events were kept, then")), "{kept} in the log; {text}");
}
