//! The git jobs, over HTTP, against real git repositories on a real git host.

mod jobs {
    pub mod apply;
    pub mod bad_input;
    pub mod branch;
    pub mod clone;
    pub mod commit;
    pub mod once;
    pub mod pull;
    pub mod rig;
}
