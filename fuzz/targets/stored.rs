//! Fuzzes objects in the storage: see `fuzz/src/stored.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::stored::check(data));
