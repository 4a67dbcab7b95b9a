//! What an operator sees of a running Weft, and ends: the topics `$SYS/broker/…`, and `weft sessions`, `weft subscriptions`
//! and `weft retained`; and the ledger.

use std::collections::BTreeMap;

use tests::raw::Client;
use tests::weft::{Setup, program};
use tests::wire::{Connect, Packet, Publish, Version};
use tests::{PATIENCE, Weft, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_topics_say_what_the_metrics_say() {
    let weft = Setup::new().config("[core]\nsys_interval_s = 1\n").start().await;
    let away = Connect::v5("away").persistent();
    let (mut gone, _) = Client::connect(weft.mqtt, &away).await.unwrap();
    gone.subscribe(&[("a", 1)]).await;
    gone.disconnect().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in 0..10 {
        writer.publish(Publish::new("a", n.to_string(), 1).retained()).await.unwrap();
    }
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v4("reader")).await.unwrap();
    reader.subscribe(&[("$SYS/broker/#", 0)]).await;
    let mut values = BTreeMap::new();
    let wanted = [
        ("clients/connected", "2"),
        ("clients/disconnected", "1"),
        ("clients/total", "3"),
        ("publish/messages/received", "10"),
        ("publish/bytes/received", "10"),
        ("retained messages/count", "1"),
        ("messages/stored", "11"),
        ("subscriptions/count", "2"),
    ];
    let there = |values: &BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(name, value)| values.get(&format!("$SYS/broker/{name}")).is_some_and(|v| v == value))
    };
    let follow = async {
        while !there(&values) {
            let message = reader.message().await.unwrap().expect("a value");
            assert_eq!(message.qos, 0);
            values.insert(message.topic, String::from_utf8(message.payload).unwrap());
        }
    };
    let followed = tokio::time::timeout(PATIENCE, follow).await;
    assert!(followed.is_ok(), "{values:#?}");
    for name in ["version", "uptime", "bytes/received", "heap/current", "load/messages/received/15min"] {
        assert!(values.contains_key(&format!("$SYS/broker/{name}")), "{name} is not in {values:#?}");
    }
    assert_eq!(weft.metric("weft_core_sessions_away").await, Some(1.0));
}

/// Exit code, standard output and standard error of a command that looks at `weft`.
async fn look(weft: &Weft, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(program());
    command.args(arguments).args(["--http", &weft.http.to_string()]);
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_seen_and_ended() {
    let weft = Weft::start().await;
    let (mut five, _) = Client::connect(weft.mqtt, &Connect::v5("five/five").persistent()).await.unwrap();
    five.subscribe(&[("a/#", 1), ("b", 2)]).await;
    let (mut four, _) = Client::connect(weft.mqtt, &Connect::v4("four")).await.unwrap();
    four.subscribe(&[("a/+", 0)]).await;

    let (code, table, _) = look(&weft, &["sessions"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!((code, lines.len()), (0, 3), "{table}");
    assert!(
        lines[0].starts_with("CLIENT") && lines[1].starts_with("five/five") && lines[1].contains("MQTT 5")
    );
    assert!(lines[2].contains("127.0.0.1:") && lines[2].contains("MQTT 3.1.1"), "{table}");
    let (_, json, _) = look(&weft, &["sessions", "ls", "--json"]).await;
    let rows: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[0]["client"], &rows[0]["durable"]), (&"five/five".into(), &true.into()));
    assert_eq!((&rows[1]["listener"], &rows[1]["expiry_s"]), (&"mqtt".into(), &0.into()));
    let (_, page, _) = look(&weft, &["sessions", "show", "five/five"]).await;
    assert!(page.contains("inflight") && page.contains("a/#"), "{page}");
    let (_, table, _) = look(&weft, &["subscriptions", "--topic", "a/b"]).await;
    assert!(table.contains("a/#") && table.contains("a/+") && table.lines().count() == 3, "{table}");
    let (_, table, _) = look(&weft, &["subscriptions", "--client", "five/five", "--filter", "b"]).await;
    assert_eq!(table.lines().count(), 2, "{table}");

    let (code, said, _) = look(&weft, &["sessions", "end", "five/five"]).await;
    assert_eq!((code, &*said), (0, "ended five/five\n"));
    assert_eq!(five.closed().await, Some(0x98), "administrative action");
    let (code, _, error) = look(&weft, &["sessions", "end", "five/five"]).await;
    assert!(code == 1 && error.contains("forget=true"), "{error}");
    assert_eq!(look(&weft, &["sessions", "end", "--forget", "five/five"]).await.0, 0);
    assert_eq!(look(&weft, &["sessions", "end", "four"]).await.0, 0);
    assert_eq!(four.closed().await, None);
    let (code, _, error) = look(&weft, &["sessions", "show", "five/five"]).await;
    assert!(code == 1 && error.contains("no session of client"), "{error}");
    let again = Connect { version: Version::V5, ..Connect::v5("five/five") }.persistent();
    assert!(!Client::connect(weft.mqtt, &again).await.unwrap().1, "it was forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_events_are_seen_and_forgotten() {
    let weft = Weft::start().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in 0..1100u32 {
        writer.publish(Publish::new(&format!("many/{n}"), n.to_string(), 0).retained()).await.unwrap();
    }
    writer.publish(Publish::new("one", "the data", 2).retained()).await.unwrap();
    let (_, table, _) = look(&weft, &["retained", "ls", "many/+"]).await;
    assert_eq!(table.lines().count(), 1101, "more than one page");
    let (_, data, _) = look(&weft, &["retained", "show", "one"]).await;
    assert_eq!(data, "the data\n");
    let (code, said, _) = look(&weft, &["retained", "rm", "many/#"]).await;
    assert_eq!((code, &*said), (0, "forgot 1100 retained events\n"));
    let (_, json, _) = look(&weft, &["retained", "--json"]).await;
    assert!(json.lines().count() == 1 && json.contains("\"one\""), "{json}");
    let (code, _, error) = look(&weft, &["retained", "rm", "a#"]).await;
    assert!(code == 1 && error.contains("MQTT-4.7.1-1"), "{error}");
    let (status, page) = weft.get("/admin/sessions?limits=3").await.unwrap();
    assert!(status == 400 && page.contains("urn:weft:problem:query"), "{page}");
    let (status, page) = weft.get("/admin/retained?topic=nothing").await.unwrap();
    assert!(status == 404 && page.contains("urn:weft:problem:not-found"), "{page}");
}

/// The rows of `weft ledger --json`, by route; owed is queued and all ends in each.
async fn ledger(weft: &Weft) -> BTreeMap<String, serde_json::Value> {
    let (code, json, error) = look(weft, &["ledger", "--json"]).await;
    assert_eq!((code, &*error), (0, ""));
    let rows = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let each = |row: serde_json::Value| {
        let counts = row
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| !["owed", "route", "tenant"].contains(&name.as_str()));
        let sum: u64 = counts.map(|(_, count)| count.as_u64().unwrap()).sum();
        assert_eq!(row["owed"], sum, "{row}");
        (row["route"].as_str().unwrap().to_owned(), row)
    };
    rows.map(each).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_knows_each_delivery_also_after_a_crash() {
    let routes = "[[route]]\nname = \"orders\"\ntopic = \"shop/+\"\n";
    let mut weft = Setup::new().config(routes).start().await;
    let durable = Connect::v5("reader").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &durable).await.unwrap();
    reader.subscribe(&[("#", 1)]).await;
    let (mut watcher, _) = Client::connect(weft.mqtt, &Connect::v5("watcher")).await.unwrap();
    watcher.subscribe(&[("shop/#", 0)]).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for topic in ["shop/1", "shop/2", "other"] {
        writer.publish(Publish::new(topic, "x", 1)).await.unwrap();
        reader.message().await.unwrap().unwrap();
    }
    for _ in 0..2 {
        watcher.message().await.unwrap().unwrap();
    }
    drop(reader);
    // The reader acknowledges what it gets; one more waits for it.
    eventually("all is acknowledged", || async {
        (ledger(&weft).await["orders"]["acked"] == 2).then_some(())
    })
    .await;
    writer.publish(Publish::new("shop/3", "x", 1)).await.unwrap();
    watcher.message().await.unwrap().unwrap();
    let before = ledger(&weft).await;
    assert_eq!((&before["orders"]["owed"], &before["orders"]["sent"]), (&6.into(), &3.into()));
    assert_eq!((&before["orders"]["queued"], &before["(none)"]["acked"]), (&1.into(), &1.into()));
    let (_, table, _) = look(&weft, &["ledger"]).await;
    assert!(table.starts_with("ROUTE") && table.contains("\norders "), "{table}");
    eventually("the metrics say it as well", || async {
        (weft.metric("weft_ledger_ended_total").await == Some(6.0)).then_some(())
    })
    .await;
    let (_, json, _) = look(&weft, &["ledger", "--publishes", "--json"]).await;
    let orders = json.lines().find(|line| line.contains("orders")).unwrap();
    assert!(orders.contains(r#""in":3"#) && orders.contains(r#""kept":3"#), "{orders}");
    weft.kill().await;
    weft.restart().await;
    let after = ledger(&weft).await;
    assert_eq!((&after["orders"]["acked"], &after["orders"]["queued"]), (&2.into(), &1.into()));
    assert_eq!(after["(none)"], before["(none)"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_needs_an_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let (rules, users) = (folder.path().join("acl.toml"), folder.path().join("users"));
    std::fs::write(&rules, "admins = [\"ops\"]\n[[rule]]\nallow = \"all\"\ntopic = \"#\"\n").unwrap();
    for user in ["ops", "dev"] {
        let mut passwd = std::process::Command::new(program());
        passwd.arg("passwd").arg(&users).arg(user).stdin(std::process::Stdio::piped());
        let mut child = passwd.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"secret\n").unwrap();
        assert!(child.wait().unwrap().success());
    }
    let config = format!("[access]\npassword_file = {users:?}\nacl_file = {rules:?}\n");
    let weft = Setup::new().config(config).start().await;
    assert_eq!(look(&weft, &["sessions", "--user", "ops:secret"]).await.0, 0);
    for (arguments, hint) in [
        (&["sessions"][..], "403"),
        (&["sessions", "--user", "dev:secret"], "admins"),
        (&["sessions", "--user", "ops:wrong"], "--user NAME"),
    ] {
        let (code, _, error) = look(&weft, arguments).await;
        assert!(code == 1 && (error.contains(hint) || error.contains("admins")), "{arguments:?}: {error}");
    }
}

#[tokio::test]
async fn the_ledger_tells_tenants_apart() {
    let config = "[[route]]\nname = \"orders\"\ntopic = \"shop/+\"\n[tenant.acme]\nclients = [\"acme-*\"]\n";
    let mut weft = Setup::new().config(config).start().await;
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader").persistent()).await.unwrap();
    reader.subscribe(&[("#", 1)]).await;
    for (client, times) in [("acme-1", 2), ("acme-2", 1), ("other", 1)] {
        let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5(client)).await.unwrap();
        for _ in 0..times {
            writer.publish(Publish::new("shop/1", "x", 1)).await.unwrap();
        }
    }
    for restarted in [false, true] {
        if restarted {
            weft.kill().await;
            weft.restart().await;
        }
        for (tenant, owed) in [("acme", 3), ("", 1)] {
            let (_, rows, _) = look(&weft, &["ledger", "--tenant", tenant, "--json"]).await;
            let row = rows.lines().find(|row| row.contains("orders")).unwrap();
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            assert_eq!((&row["tenant"], &row["owed"]), (&tenant.into(), &owed.into()), "{rows}");
        }
    }
    let (_, table, _) = look(&weft, &["ledger"]).await;
    assert!(table.starts_with("ROUTE") && table.contains("acme"), "{table}");
}

/// A client that cannot take an event: each connection ends with it, in the way of a process that falls over.
#[tokio::test]
async fn an_event_that_clients_fall_over_becomes_a_dead_letter() {
    let weft = Setup::new().config("[core.redelivery]\nlimit = 2\n").start().await;
    let (mut watcher, _) = Client::connect(weft.mqtt, &Connect::v5("watcher")).await.unwrap();
    watcher.subscribe(&[("$dead/#", 1)]).await;
    let durable = Connect::v5("reader").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &durable).await.unwrap();
    reader.subscribe(&[("plant/+", 1)]).await;
    reader.disconnect().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for data in ["bad", "good"] {
        writer.publish(Publish::new("plant/1", data, 1)).await.unwrap();
    }
    for _ in 0..2 {
        let (mut reader, _) = Client::connect(weft.mqtt, &durable).await.unwrap();
        let Packet::Publish(bad) = reader.next().await else { panic!("no PUBLISH") };
        assert_eq!(bad.payload, b"bad");
    }
    let (mut reader, _) = Client::connect(weft.mqtt, &durable).await.unwrap();
    assert_eq!(reader.message().await.unwrap().unwrap().payload, b"good");
    let letter = watcher.message().await.unwrap().unwrap();
    assert_eq!((&*letter.topic, &*letter.payload), ("$dead/reader/plant/1", &b"bad"[..]));
    eventually("both are booked", || async {
        let book = ledger(&weft).await.remove("(none)")?;
        (book["dead_lettered"] == 1 && book["acked"] == 2).then_some(())
    })
    .await;
}
