//! Fuzzes files of rules: see `fuzz/src/rules.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::rules::check(data));
