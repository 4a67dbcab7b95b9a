//! What became of an event, by `weft trace` and the admin page.

use serde_json::{Value, json};
use tests::raw::Client;
use tests::weft::{Setup, program};
use tests::wire::Connect;
use tests::{Weft, eventually};
use tokio::process::Command;

async fn publish(weft: &Weft, topic: &str, id: &str) {
    let request = reqwest::Client::new().post(format!("http://{}/events?topic={topic}", weft.http));
    let event = json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "data": {"n": 1}});
    let request = request.header("content-type", "application/cloudevents+json").body(event.to_string());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

/// Its exit code, records, and what it says beside them.
async fn trace(weft: &Weft, arguments: &[&str]) -> (i32, Vec<Value>, String) {
    let mut command = Command::new(program());
    command.arg("trace").arg("--json").arg("--data").arg(weft.data()).args(arguments);
    let output = command.output().await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let records = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), records, String::from_utf8(output.stderr).unwrap())
}

/// To whom a record went, and what became of that.
fn deliveries(record: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = record["deliveries"].as_array().unwrap();
    let mut all: Vec<_> = all.iter().map(|one| (text(&one["client"]), text(&one["state"]))).collect();
    all.sort();
    all
}

/// Waits until the only record of `id` has these deliveries.
async fn until(weft: &Weft, id: &str, wanted: &[(&str, &str)]) -> Value {
    let wanted: Vec<_> = wanted.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    eventually(&format!("{wanted:?}"), async || {
        let (code, records, _) = trace(weft, &[id]).await;
        (code == 0 && records.len() == 1 && deliveries(&records[0]) == wanted).then(|| records[0].clone())
    })
    .await
}

async fn durable(weft: &Weft, client: &str, filter: &str) -> Client {
    let (mut link, _) = Client::connect(weft.mqtt, &Connect::v5(client).persistent()).await.unwrap();
    assert_eq!(link.subscribe(&[(filter, 1)]).await, [1]);
    link
}

#[tokio::test]
async fn an_event_is_followed_to_those_who_get_it_over_a_crash() {
    let mut weft = Weft::start().await;
    let mut worker = durable(&weft, "worker", "a/#").await;
    durable(&weft, "away", "a/+").await.disconnect().await;
    durable(&weft, "other", "b/#").await.disconnect().await;
    let mut member = durable(&weft, "member", "$share/g/a/#").await;
    publish(&weft, "a/x", "e-1").await;
    assert!(worker.message().await.unwrap().is_some());
    assert!(member.message().await.unwrap().is_some());
    let owed = [("away", "waiting"), ("member", "done"), ("worker", "done")];
    let record = until(&weft, "e-1", &owed).await;
    for (name, value) in [("topic", json!("a/x")), ("source", json!("/s")), ("bytes", json!(7))] {
        assert_eq!(record[name], value, "{record}");
    }
    let of_group = |one: &&Value| one["client"] == "member";
    let shared = record["deliveries"].as_array().unwrap().iter().find(of_group).unwrap();
    assert_eq!(shared["group"], "$share/g/a/#");

    let (status, page) = weft.get("/admin/trace?id=e-1&source=/s").await.unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, deliveries(&page["records"][0])), (200, deliveries(&record)));
    assert_eq!(weft.get("/admin/trace?id=e-1&source=/other").await.unwrap().0, 404);

    weft.kill().await;
    weft.restart().await;
    let (mut away, _) =
        Client::connect(weft.mqtt, &Connect { clean: false, ..Connect::v5("away").persistent() })
            .await
            .unwrap();
    assert!(away.message().await.unwrap().is_some());
    until(&weft, "e-1", &[("away", "done"), ("member", "done"), ("worker", "done")]).await;

    // A stop leaves a checkpoint behind the event, and the log still holds its beginning.
    weft.terminate().await;
    let (code, records, _) = trace(&weft, &["e-1"]).await;
    assert_eq!((code, deliveries(&records[0]).len()), (0, 3));
    let (code, records, said) = trace(&weft, &["e-2"]).await;
    assert_eq!((code, records.len()), (1, 0));
    assert!(said.contains("no event with id \"e-2\" in the log, which begins at 20"), "{said}");
}

#[tokio::test]
async fn what_routes_make_of_an_event_is_traced_with_it() {
    let routes =
        "[[route]]\ntopic = \"in/#\"\n[[route.to]]\ntopic = \"one\"\n[[route.to]]\ntopic = \"two\"\n";
    let weft = Setup::new().config(routes).start().await;
    durable(&weft, "keeper", "two").await.disconnect().await;
    publish(&weft, "in/x", "e-3").await;
    let (code, records, _) = trace(&weft, &["e-3"]).await;
    let told: Vec<_> =
        records.iter().map(|record| (record["topic"].as_str().unwrap(), deliveries(record))).collect();
    let waits = vec![("keeper".to_owned(), "waiting".to_owned())];
    assert_eq!((code, told), (0, vec![("one", vec![]), ("two", waits)]));
    assert_eq!(records[1]["note"], "event 2 of 2 of one publish");
    let text = as_text(&weft, "e-3").await;
    assert!(text.contains("\n  delivery 0 to keeper: waits\n"), "{text}");
}

/// What people see.
async fn as_text(weft: &Weft, id: &str) -> String {
    let mut command = Command::new(program());
    let output = command.arg("trace").arg(id).arg("--data").arg(weft.data()).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_was_over_before_the_oldest_checkpoint_is_said_to_be_unknown() {
    let mut weft = Setup::new().config("[store]\nsegment_bytes = \"64 KiB\"\n").start().await;
    let mut worker = durable(&weft, "worker", "a").await;
    durable(&weft, "away", "a").await.disconnect().await;
    let web = reqwest::Client::new();
    for _ in 0..3 {
        let request = web.post(format!("http://{}/events?topic=filler", weft.http));
        assert_eq!(request.body("x".repeat(60 << 10)).send().await.unwrap().status(), 200);
    }
    publish(&weft, "a", "e-4").await;
    assert!(worker.message().await.unwrap().is_some());
    until(&weft, "e-4", &[("away", "waiting"), ("worker", "done")]).await;
    weft.terminate().await;
    // The stop kept the only checkpoint, and retention frees files from the old end.
    let files = std::fs::read_dir(weft.data()).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|file| file.extension().is_some_and(|name| name == "log"));
    std::fs::remove_file(segments.min().unwrap()).unwrap();
    let record = until(&weft, "e-4", &[("away", "waiting")]).await;
    assert!(record["known_from"].as_u64() > record["position"].as_u64(), "{record}");
    let text = as_text(&weft, "e-4").await;
    let said =
        format!("deliveries that were over before position {} are not known any more", record["known_from"]);
    assert!(text.contains(&said), "{text}");
}

#[tokio::test]
async fn repeats_leave_no_record_and_the_first_says_so() {
    let weft = Setup::new().config("[[route]]\ntopic = \"once\"\nunique_s = 3600\n").start().await;
    for _ in 0..3 {
        publish(&weft, "once", "e-5").await;
    }
    let (code, records, _) = trace(&weft, &["e-5"]).await;
    assert_eq!((code, records.len()), (0, 1));
    let until = records[0]["repeats_until"].as_str().unwrap();
    assert!(until > records[0]["received"].as_str().unwrap(), "{records:?}");
    let text = as_text(&weft, "e-5").await;
    assert!(
        text.contains(&format!("repeats of it until {until} were answered, and left no record")),
        "{text}"
    );
}
