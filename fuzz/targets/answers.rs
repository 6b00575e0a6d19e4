//! Fuzzes a git remote's answers: see `fuzz/src/answers.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::answers::check(data));
