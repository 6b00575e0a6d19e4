//! Fuzzes headers of requests: see `fuzz/src/headers.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::headers::check(data));
