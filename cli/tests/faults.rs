//! Workers that die, collide and are lied to, as real processes before a real S3 server and a real git host.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

mod faults {
    mod bombs;
    mod collected;
    mod full;
    mod ground;
    pub(crate) mod jobs;
    mod killed;
    mod orphans;
    mod rivals;
    mod session;
    mod storage;
    mod trial;
}
