//! What typical filters cost an event, and what the worst that are known do: `cargo run --release -p weft-filter --example cost`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a table for people")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use event::{Event, Language, TopicName};
use filter::{EventView, Filter, Judgement, TEXT_MAX, Verdict};

use Language::{Cel, Cesql};

fn main() {
    let one_of: String = (0..100).map(|n| format!("'com.example.kind{n}', ")).collect();
    typical(&[
        (Cesql, "type = 'com.example.order.created'".to_owned()),
        (Cesql, "type LIKE 'com.example.%' AND source LIKE '%/berlin/%'".to_owned()),
        (Cesql, "INT(priority) > 5 AND EXISTS subject AND region IN ('eu', 'us')".to_owned()),
        (Cesql, "UPPER(LEFT(subject, 5)) = 'ORDER' AND priority + 1 < 10".to_owned()),
        (Cesql, format!("type IN ({one_of}'com.example.order.created')")),
        (Cel, "event.type == 'com.example.order.created'".to_owned()),
        (Cel, "event.type.startsWith('com.example.') && has(event.subject)".to_owned()),
        (Cel, "event.type.matches('^com[.].*[.](created|changed)$')".to_owned()),
        (Cel, "data.total > 100 && data.customer.country in ['de', 'fr']".to_owned()),
        (Cel, "data.items.exists(i, i.sku.startsWith('A') && i.count > 1)".to_owned()),
    ]);
    // As often as there is room for it.
    let many = |one: &str, sign: &str| vec![one; TEXT_MAX / (one.len() + sign.len())].join(sign);
    hostile(&[
        (Cel, many("data.l.exists(x, data.l.exists(y, x + y < 0))", " || ")),
        (Cel, many("data.l.map(x, [x, x, [x], [[x]]]) == []", " || ")),
        (Cel, many("[[],[],[[]],[]].exists(x, x.size() > 1)", " || ")),
        (Cel, many("data.s.matches('ac') || 1 == 2 || 1 == 2", " || ")),
        (Cel, many("data.s.contains('aabaabaabaabab')", " || ")),
        (Cel, many("string(data.d) == ''", " || ")),
        (Cel, many("double(data.z) == 0.5", " || ")),
        (Cel, many("int(data.z) == 1", " || ")),
        (Cel, many("data.s + data.s == data.s", " || ")),
        (Cel, many("data.s.lowerAscii() == ''", " || ")),
        (Cel, many("data.o['member199'] == 0", " || ")),
        (Cel, many("data.o[data.s] == 0", " || ")),
        (Cel, many("event[data.s] == 0", " || ")),
        (Cel, many("data.l[1024.0] == 1", " || ")),
        (Cel, many("data.o == data.o", " && ")),
        (Cel, many("1 == 2", " || ")),
        (Cesql, many("1 = 2", " OR ")),
        (Cesql, many("INT(zeros) = 1", " OR ")),
        (Cesql, many("UPPER(long) = ''", " OR ")),
        (Cesql, many("long LIKE '%aabaabaabaabab%'", " OR ")),
        (Cesql, many("long LIKE '%_a_b_c%'", " OR ")),
        (Cesql, many("SUBSTRING(long, 2) = ''", " OR ")),
        (Cesql, format!("CONCAT({}) = ''", vec!["1"; 2000].join(","))),
        (Cesql, format!("long IN ({}'a')", "long,".repeat(700))),
        (Cesql, many("e200 = 'x'", " OR ")),
    ]);
}

fn typical(filters: &[(Language, String)]) {
    let event = order();
    println!("{:>7}  {:>7}  {:>7}  filter ({} B of data)", "ns", "ns/next", "steps", event.data().len());
    for (language, text) in filters {
        let filter = Filter::compile(*language, text).unwrap();
        let Judgement { verdict, steps } = filter.judge(&EventView::new(&event));
        assert_eq!(verdict, Verdict::Passes, "{text}");
        let alone = measure(200_000, || {
            black_box(filter.judge(&EventView::new(black_box(&event))));
        });
        let view = EventView::new(&event);
        let next = measure(200_000, || {
            black_box(filter.judge(black_box(&view)));
        });
        println!("{alone:>7.0}  {next:>7.0}  {steps:>7}  {language}: {}", shown(text));
    }
}

fn hostile(filters: &[(Language, String)]) {
    println!("\n{:>7}  {:>7}  {:>7}  filter, on an event made for it", "ns", "steps", "ns/step");
    let event = made();
    let view = EventView::new(&event);
    for (language, text) in filters {
        let filter = Filter::compile(*language, text).unwrap();
        let Judgement { steps, .. } = filter.judge(&view);
        let ns = measure(200, || {
            black_box(filter.judge(black_box(&view)));
        });
        println!("{ns:>7.0}  {steps:>7}  {:>7.1}  {language}: {}", ns / steps as f64, shown(text));
    }
}

fn shown(text: &str) -> String {
    text.chars().take(90).collect()
}

/// Nanoseconds a call: the best of five runs.
fn measure(calls: u32, mut call: impl FnMut()) -> f64 {
    let run = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    (0..5).map(|_| run(&mut call)).fold(f64::MAX, f64::min)
}

fn order() -> Event {
    read(r#"{"specversion":"1.0","id":"7f1c","source":"//shop/berlin/till/4","type":"com.example.order.created",
        "subject":"order/4711","time":"2026-01-01T12:00:00Z","priority":"7","region":"eu","data":{"order":4711,
        "customer":{"id":"c-1009","name":"Ada Lovelace","country":"de"},"total":129.9,"currency":"EUR","items":[
        {"sku":"B-22","count":1,"price":9.95},{"sku":"A-17","count":2,"price":59.95},{"sku":"C-01","count":1,"price":0.05}]}}"#.to_owned())
}

/// Long texts and lists, large objects, many attributes.
fn made() -> Event {
    let (long, zeros) = ("aabaabaabaab".repeat(80), "0".repeat(1000));
    let members: Vec<String> = (0..200).map(|n| format!("\"member{n:03}\":{n}")).collect();
    let extensions: Vec<String> = (0..250).map(|n| format!("\"e{n}\":\"v\"")).collect();
    read(format!(
        "{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",{},\"long\":\"{long}\",\"zeros\":\"{zeros}\",\
         \"data\":{{\"s\":\"{long}\",\"z\":\"{zeros}\",\"d\":1e300,\"l\":[{}0],\"o\":{{{}}}}}}}",
        extensions.join(","),
        "1,".repeat(1100),
        members.join(",")
    ))
}

fn read(json: String) -> Event {
    let incoming = event::json::decode(Bytes::from(json)).unwrap();
    incoming.into_event(TopicName::parse("shop/orders").unwrap(), 1, 1_700_000_000_000, Arc::from("till-4"))
}
