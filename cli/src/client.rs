//! `mayfly` as a client of a gateway: jobs are posted and watched, and what the gateway tells is shown.
//!
//! Results go to standard output, progress to standard error; with `--json` every event of a job is a line of standard output. How a command
//! ended is its exit code ([`exit`]). Nothing that a server says reaches a terminal unchanged ([`text`]).

mod ask;
pub(crate) mod commands;
mod exit;
mod follow;
mod gateway;
pub(crate) mod jobs;
mod table;
mod text;
mod view;

pub(crate) use exit::{ClientError, tell};
pub(crate) use follow::{Followed, follow_posted};
pub(crate) use gateway::Gateway;
pub(crate) use view::View;
