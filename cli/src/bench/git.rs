//! Plain git: what the naive side works with, and what prepares the repositories.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Takes the settings of this machine away from a command that runs git.
pub(crate) fn hermetic(command: &mut Command) -> &mut Command {
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "bench")
        .env("GIT_AUTHOR_EMAIL", "bench@example.com")
        .env("GIT_COMMITTER_NAME", "bench")
        .env("GIT_COMMITTER_EMAIL", "bench@example.com")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
}

/// Git in a folder.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark prepares its repositories with plain git"
    )]
    let mut command = Command::new("git");
    hermetic(command.current_dir(folder).args(args));
    command
}

/// Runs git, and gives the bytes that it wrote.
pub(crate) fn bytes(folder: &Path, args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = command(folder, args)
        .output()
        .context("`git` could not be started; install git and see that it is on the PATH")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`git {}` failed: {words}", args.join(" "));
    }
    Ok(output.stdout)
}

/// Runs git, and gives the text that it wrote, without the end of its last line.
pub(crate) fn text(folder: &Path, args: &[&str]) -> anyhow::Result<String> {
    let text = String::from_utf8(bytes(folder, args)?).context("git wrote something other than UTF-8")?;
    Ok(text.trim_end().to_owned())
}

/// Imports what `write` says in the language of git-fast-import(1).
pub(crate) fn fast_import(
    folder: &Path,
    write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut child = command(folder, &["fast-import", "--quiet", "--done"])
        .stdin(Stdio::piped())
        .spawn()
        .context("`git` could not be started; install git and see that it is on the PATH")?;
    let input = child.stdin.take().context("git has no standard input")?;
    let mut input = std::io::BufWriter::with_capacity(1 << 20, input);
    let written = write(&mut input)
        .and_then(|()| input.write_all(b"done\n"))
        .and_then(|()| input.flush());
    drop(input);
    if !child.wait()?.success() {
        bail!("`git fast-import` failed");
    }
    written.context("the history could not be written to git")
}
