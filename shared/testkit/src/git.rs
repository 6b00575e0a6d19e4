//! The plain `git` program in a hermetic environment: no configuration but the repository's, no prompt, no borrowed certificates.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `git` in this folder, with nothing of the caller's environment but the PATH.
#[expect(
    clippy::disallowed_methods,
    reason = "tests compare with what the real git does"
)]
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env_clear()
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .envs(identity("AUTHOR"))
        .envs(identity("COMMITTER"))
        .stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn identity(role: &str) -> [(String, &'static str); 2] {
    [
        (format!("GIT_{role}_NAME"), "Test Person"),
        (format!("GIT_{role}_EMAIL"), "person@example.com"),
    ]
}

/// Runs it whatever comes of it.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .expect("`git` must be installed to run the tests")
}

/// Runs it and gives what it wrote; panics with git's words when it fails.
#[track_caller]
pub fn stdout(command: &mut Command) -> Vec<u8> {
    let output = output(command);
    let arguments: Vec<&OsStr> = command.get_args().collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`git` {arguments:?} failed: {said}");
    output.stdout
}

/// The same as text without the line end.
#[track_caller]
pub fn text(command: &mut Command) -> String {
    let bytes = stdout(command);
    let text = String::from_utf8(bytes).expect("git wrote something that is not UTF-8");
    text.trim_end().to_owned()
}
