//! Fuzzes packs read through their indexes: see `fuzz/src/indexes.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::indexes::check(data));
