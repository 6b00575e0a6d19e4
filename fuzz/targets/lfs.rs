//! Fuzzes Git LFS: see `fuzz/src/lfs.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mayfly_fuzz::lfs::check(data));
