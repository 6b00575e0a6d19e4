//! Fuzzes patches: see `fuzz/src/patches.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::patches::check(data));
