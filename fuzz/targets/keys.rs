//! Fuzzes files of keys: see `fuzz/src/keys.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::keys::check(data));
