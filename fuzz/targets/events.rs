//! Fuzzes events of a worker: see `fuzz/src/events.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::events::check(data));
