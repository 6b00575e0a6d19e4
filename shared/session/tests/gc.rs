//! Collection of garbage beside jobs that run: nothing that one of them needs goes, and everything else does, in the end.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

mod gc {
    mod interleaved;
    mod rules;
    pub(crate) mod world;
}
