//! The git jobs, over HTTP, against real git repositories on a real git host.
#![expect(clippy::unwrap_used, reason = "a test panics where its preparation fails")]

mod jobs {
    #[path = "../../../shared/naming/tests/llm/aimock.rs"]
    #[expect(dead_code, reason = "shared with the tests of naming, which read its journal")]
    mod aimock;
    mod apply;
    mod bad_input;
    mod branch;
    mod clone;
    mod commit;
    mod damage;
    mod depth;
    mod folds;
    mod hostile;
    mod ignored;
    mod incoming;
    mod known;
    mod lfs;
    mod naming;
    mod once;
    mod pull;
    mod ranges;
    mod received;
    mod rig;
    mod storage_faults;
    mod tls;
}
