//! A connection of an EventMesh client: frames, answers of gate and hub, deliveries, orders and time in any order.
#![no_main]

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    tcp::connection::exercise(script, *START.get_or_init(Instant::now));
});
