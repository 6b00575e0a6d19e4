//! Fuzzes streams of events: see `fuzz/src/streams.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::streams::check(data));
