//! Fuzzes addresses and names: see `fuzz/src/addresses.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::addresses::check(data));
