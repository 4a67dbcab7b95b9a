//! A connection of an MQTT client: packets, answers of gate and hub, deliveries and time in any order.
#![no_main]

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    mqtt::connection::exercise(script, *START.get_or_init(Instant::now));
});
