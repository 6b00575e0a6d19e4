//! Fuzzes bodies of requests: see `fuzz/src/requests.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::requests::check(data));
