//! Makes bare repositories that the server can serve. It must not know HTTP.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::name::{InvalidRepositoryName, RepositoryName};

/// What a host such as GitHub allows: pushes (authorised by the server), partial clones, and wants of any object id.
/// Housekeeping is off: it would go on after the answer.
const SETTINGS: [(&str, &str); 6] = [
    ("http.receivepack", "true"),
    ("uploadpack.allowFilter", "true"),
    ("uploadpack.allowAnySHA1InWant", "true"),
    ("receive.autogc", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
];

/// Why a repository could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The name could leave the root.
    #[error(transparent)]
    Name(#[from] InvalidRepositoryName),
    /// The program `git` could not be started.
    #[error("`git` could not be started; install git and see that it is on the PATH")]
    Start(#[source] io::Error),
    /// Git refused.
    #[error("`git {command}` failed: {stderr}")]
    Git {
        /// The subcommand.
        command: &'static str,
        /// What git said.
        stderr: String,
    },
}

/// Makes the empty bare repository `<root>/<name>.git` whose HEAD names the branch `head`, and gives its folder.
///
/// Blocks for some milliseconds. It has no hooks; a test that wants one makes the folder `hooks`.
pub fn init_bare(root: &Path, name: &str, head: &str) -> Result<PathBuf, InitError> {
    let folder = name.parse::<RepositoryName>()?.folder(root);
    let branch = format!("--initial-branch={head}");
    let init = [
        "--bare",
        "--quiet",
        "--template=",
        "--object-format=sha1",
        &branch,
        "--",
    ];
    run("init", git("init").args(init).arg(&folder))?;
    for (key, value) in SETTINGS {
        run("config", git("config").args([key, value]).current_dir(&folder))?;
    }
    Ok(folder)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the git server is one of the two places that start processes"
)]
fn git(subcommand: &str) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .arg(subcommand);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn run(name: &'static str, command: &mut Command) -> Result<(), InitError> {
    let output = command.output().map_err(InitError::Start)?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(InitError::Git {
        command: name,
        stderr,
    })
}
