//! Workers that die, collide and are lied to, as real processes before a real S3 server and a real git host.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

mod faults {
    mod bombs;
    mod forged;
    mod full;
    mod ground;
    mod killed;
    mod rivals;
    mod session;
    mod storage;
    mod trial;
}
