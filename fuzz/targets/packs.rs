//! Fuzzes packs while they arrive: see `fuzz/src/packs.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::packs::check(data));
