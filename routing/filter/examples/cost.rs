//! What typical filters cost an event: `cargo run --release -p weft-filter --example cost`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a table for people")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use event::{Event, Language, TopicName};
use filter::{EventView, Filter, Verdict};

const EVENTS: u32 = 300_000;

fn main() {
    let event = event();
    let one_of: String = (0..100).map(|n| format!("'com.example.kind{n}', ")).collect();
    let filters = [
        (Language::Cesql, "type = 'com.example.order.created'".to_owned()),
        (Language::Cesql, "type LIKE 'com.example.%' AND source LIKE '%/berlin/%'".to_owned()),
        (Language::Cesql, "INT(priority) > 5 AND EXISTS subject AND region IN ('eu', 'us')".to_owned()),
        (Language::Cesql, "UPPER(LEFT(subject, 5)) = 'ORDER' AND priority + 1 < 10".to_owned()),
        (Language::Cesql, format!("type IN ({one_of}'com.example.order.created')")),
        (Language::Cel, "event.type == 'com.example.order.created'".to_owned()),
        (Language::Cel, "event.type.startsWith('com.example.') && has(event.subject)".to_owned()),
        (Language::Cel, "event.type.matches('^com[.].*[.](created|changed)$')".to_owned()),
        (Language::Cel, "data.total > 100 && data.customer.country in ['de', 'fr']".to_owned()),
        (Language::Cel, "data.items.exists(i, i.sku.startsWith('A') && i.count > 1)".to_owned()),
    ];
    println!("{:>7}  {:>7}  filter ({} B of data)", "ns", "ns/next", event.data().len());
    for (language, text) in filters {
        let filter = Filter::compile(language, &text).unwrap();
        assert_eq!(filter.judge(&EventView::new(&event)), Verdict::Passes, "{text}");
        let alone = measure(|| {
            black_box(filter.judge(&EventView::new(black_box(&event))));
        });
        let view = EventView::new(&event);
        let next = measure(|| {
            black_box(filter.judge(black_box(&view)));
        });
        let shown: String = text.chars().take(90).collect();
        println!("{alone:>7.0}  {next:>7.0}  {language}: {shown}");
    }
}

/// Nanoseconds a call: the best of five runs.
fn measure(mut call: impl FnMut()) -> f64 {
    let run = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..EVENTS {
            call();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(EVENTS)
    };
    (0..5).map(|_| run(&mut call)).fold(f64::MAX, f64::min)
}

fn event() -> Event {
    let json = r#"{"specversion":"1.0","id":"7f1c","source":"//shop/berlin/till/4","type":"com.example.order.created",
        "subject":"order/4711","time":"2026-01-01T12:00:00Z","priority":"7","region":"eu","data":{"order":4711,
        "customer":{"id":"c-1009","name":"Ada Lovelace","country":"de"},"total":129.9,"currency":"EUR","items":[
        {"sku":"B-22","count":1,"price":9.95},{"sku":"A-17","count":2,"price":59.95},{"sku":"C-01","count":1,"price":0.05}]}}"#;
    let incoming = event::json::decode(Bytes::from_static(json.as_bytes())).unwrap();
    incoming.into_event(TopicName::parse("shop/orders").unwrap(), 1, 1_700_000_000_000, Arc::from("till-4"))
}
