//! Starts other programs, and speaks to the terminal. The only file of this program that does either.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

/// Runs a program in a folder, its output going to the terminal. True if it ended well.
pub(crate) fn succeeds(
    root: &Path,
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> anyhow::Result<bool> {
    let status = command(root, program, arguments)
        .envs(variables.iter().copied())
        .status();
    let status = status
        .with_context(|| format!("`{program}` cannot be started; install it, or put it on the PATH"))?;
    Ok(status.success())
}

/// Runs a program in a folder and gives what it wrote to standard output.
pub(crate) fn output(root: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = command(root, program, arguments)
        .stderr(Stdio::inherit())
        .output();
    let output = output
        .with_context(|| format!("`{program}` cannot be started; install it, or put it on the PATH"))?;
    if !output.status.success() {
        bail!(
            "`{program} {}` failed; its own words are above",
            arguments.join(" ")
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{program}` writes something that is not text"))
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) is_good: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program out of reach of the terminal's Ctrl-C, gives it a text, and keeps what it writes.
pub(crate) fn capture(
    root: &Path,
    program: &str,
    arguments: &[&str],
    variables: &[(String, String)],
    input: &str,
) -> anyhow::Result<Ended> {
    let mut child = command(root, program, arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{program}` cannot be started; install it, or put it on the PATH"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that reads nothing closes the pipe, which is no fault.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended {
        is_good: output.status.success(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// Starts a program that goes on, out of reach of the terminal's Ctrl-C.
pub(crate) fn start(
    root: &Path,
    program: &str,
    arguments: &[&str],
    stdout: Stdio,
    stderr: Stdio,
) -> anyhow::Result<Child> {
    let child = command(root, program, arguments)
        .process_group(0)
        .stdout(stdout)
        .stderr(stderr)
        .spawn();
    child.with_context(|| format!("`{program}` cannot be started; install it, or put it on the PATH"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "to start cargo is what this program is for"
)]
fn command(root: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command
}

/// Writes a line for people.
#[expect(
    clippy::print_stderr,
    reason = "the terminal is where this program's reader is"
)]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Writes a line of a result.
#[expect(clippy::print_stdout, reason = "it may go into a file")]
pub(crate) fn print(line: &str) {
    println!("{line}");
}
