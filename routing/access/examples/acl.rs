//! What a check of the rules costs: `cargo run --release -p weft-access --example acl`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this is a benchmark")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use access::{Access, Options};
use event::access::{Asking, Credentials, Gate as _};
use event::{ClientId, Health, Source, TopicFilter, TopicName};

const CHECKS: u32 = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("| rules that match the client | publish | subscribe |\n|---|---|---|");
    for rules in [1, 10, 50, 200] {
        let mut text = String::new();
        for at in 1..rules {
            write!(text, "[[rule]]\nallow = 'all'\ntopic = 'plant/line{at}/+/state'\n").unwrap();
        }
        // Rules for others cost nothing.
        for at in 0..1000 {
            write!(text, "[[rule]]\nallow = 'all'\nclient = 'other-{at}'\ntopic = 'x/#'\n").unwrap();
        }
        text.push_str("[[rule]]\nallow = 'all'\ntopic = 'plant/${client}/#'\n");
        let folder = tempfile::tempdir().unwrap();
        let acl_file = folder.path().join("acl.toml");
        std::fs::write(&acl_file, text).unwrap();
        let options = Options { acl_file, ..Options::default() };
        let access = Access::open(options, [Arc::from("mqtt")], Health::default()).unwrap();
        let source = Source {
            address: "127.0.0.1:1".parse().unwrap(),
            listener: Arc::from("mqtt"),
            certificate: None,
        };
        let asking = Asking { client: ClientId::from("c1"), source, credentials: Credentials::None };
        let rights = access.admit(asking).await.unwrap().rights;
        let topic = TopicName::parse("plant/c1/oven/state").unwrap();
        let filter = TopicFilter::parse("plant/c1/+/state").unwrap();
        let publish = nanoseconds(|| rights.may_publish(black_box(&topic)));
        let subscribe = nanoseconds(|| rights.may_subscribe(black_box(&filter)));
        println!("| {rules} | {publish:.0} ns | {subscribe:.0} ns |");
    }
}

/// One check, when the last rule is the one that allows.
fn nanoseconds(check: impl Fn() -> bool) -> f64 {
    let start = Instant::now();
    for _ in 0..CHECKS {
        assert!(black_box(check()));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CHECKS)
}
