//! What a process gives up for good when it starts: files that are not its own, other processes, and system calls that it never makes.
//!
//! It binds the calling thread and every thread and process that this one makes afterwards, so it comes before any other thread. Files, signals
//! and ports are Landlock's part (landlock(7)), which looks at the objects themselves and not at their names; system calls are that of a filter
//! (seccomp(2)). This crate must not know what the process is for.

mod calls;
mod files;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

pub use calls::CallsError;
pub use files::FilesError;

/// What the process may still do with files and ports. Everything else is refused, whoever runs it.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Folders that are its own: what is in them it reads, changes, makes and removes, but never runs.
    pub own: Vec<PathBuf>,
    /// Folders in which it may remove empty folders, and do nothing else: the one that holds its own.
    pub emptied: Vec<PathBuf>,
    /// Files and folders that it reads. One that is not there is left out.
    pub readable: Vec<PathBuf>,
    /// The TCP port that it may listen on; 0 stands for any that the system chooses.
    pub port: u16,
}

/// Whether a process may start where the system cannot hold it to its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// It may not.
    Required,
    /// It may, and [`Report`] says what is missing.
    BestEffort,
}

/// What is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of Landlock's interface whose restrictions hold; nothing where none do. 3 adds truncation, 4 ports, 5 devices, and 6 signals
    /// and abstract sockets to what 2 has.
    pub landlock: Option<i32>,
    /// Whether the filter of system calls is in force.
    pub seccomp: bool,
}

/// The process cannot be held to its bounds.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Not to its files.
    #[error("this system does not keep the process from files that are not its own")]
    Files(#[from] FilesError),
    /// Not to its system calls.
    #[error("this system does not keep the process from system calls that it never makes")]
    Calls(#[from] CallsError),
}

/// Gives up everything beyond the bounds. What could not be given up comes with the report, or is the error where it is [`Demand::Required`].
pub fn confine(bounds: &Bounds, demand: Demand) -> Result<(Report, Vec<SandboxError>), SandboxError> {
    let mut missing = Vec::new();
    let mut note = |error: SandboxError| match demand {
        Demand::Required => Err(error),
        Demand::BestEffort => {
            missing.push(error);
            Ok(())
        }
    };
    let mut report = Report::default();
    // Files first: the filter refuses nothing that Landlock needs, and knows no difference between its calls.
    match files::restrict(bounds) {
        Ok(version) => report.landlock = Some(version),
        Err(error) => note(error.into())?,
    }
    match calls::restrict() {
        Ok(()) => report.seccomp = true,
        Err(error) => note(error.into())?,
    }
    Ok((report, missing))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            Some(version) => write!(f, "files by Landlock {version}")?,
            None => f.write_str("files not")?,
        }
        f.write_str(if self.seccomp {
            ", system calls by seccomp"
        } else {
            ", system calls not"
        })
    }
}
