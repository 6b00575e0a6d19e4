//! Fuzzes patches of our own: see `fuzz/src/changes.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::changes::check(data));
