//! Any bytes as a filter, in both languages, and the data of the event that it is asked about.
#![no_main]

#[path = "../../../routing/filter/tests/corpus/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
