//! Starts other programs, and speaks to the terminal. The only file of this program that does either.

use std::path::Path;
use std::process::{Command, Stdio};

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
