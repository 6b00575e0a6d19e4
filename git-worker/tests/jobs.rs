//! The git jobs, over HTTP, against real git repositories on a real git host.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

mod jobs {
    mod apply;
    mod bad_input;
    mod branch;
    mod clone;
    mod commit;
    mod once;
    mod pull;
    mod rig;
}
