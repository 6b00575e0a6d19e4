//! The repository that the demo works on, made and inspected with plain git.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use mayfly_git_server::init_bare;
use serde_json::{Value, json};

/// The repository's name on the host.
pub(super) const NAME: &str = "acme/shop";
/// Its default branch: not `main`, as in many real repositories.
const DEFAULT_BRANCH: &str = "trunk";
/// The seconds since 1970 of its first commit.
const FIRST_COMMIT: u64 = 1_700_000_000;
/// Files that its history changes in turn.
const FILES: u32 = 60;

/// Makes a bare repository with history below `root`.
pub(super) fn make(root: &Path, commits: u32) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(root).context("the git host's folder cannot be made")?;
    let bare = init_bare(root, NAME, DEFAULT_BRANCH)?;
    let mut child = git(&bare)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .context("`git` could not be started; install git and see that it is on the PATH")?;
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(history(commits).as_bytes()));
    if !child.wait()?.success() {
        bail!("`git fast-import` failed");
    }
    written.context("the history could not be written")?;
    Ok(bare)
}

/// The history in the language of git-fast-import(1).
fn history(commits: u32) -> String {
    let mut stream = String::new();
    for number in 0..commits {
        let time = FIRST_COMMIT + u64::from(number) * 3600;
        let message = format!("Change part {number}\n");
        // Writing to a string cannot fail.
        let _ = write!(
            stream,
            "commit refs/heads/{DEFAULT_BRANCH}\ncommitter Grace <grace@example.com> {time} +0000\ndata {}\n{message}",
            message.len()
        );
        file(
            &mut stream,
            &format!("src/part{:02}.ts", number % FILES),
            &source(number),
        );
        if number == 0 {
            file(
                &mut stream,
                "README.md",
                "# Shop\n\nA small shop, to try Mayfly on.\n",
            );
            file(&mut stream, "src/settings.ts", SETTINGS);
        }
        stream.push('\n');
    }
    stream.push_str("done\n");
    stream
}

fn file(stream: &mut String, path: &str, content: &str) {
    let _ = writeln!(
        stream,
        "M 100644 inline {path}\ndata {}\n{content}",
        content.len()
    );
}

fn source(number: u32) -> String {
    let mut text = String::new();
    for line in 0..40 {
        let _ = writeln!(
            text,
            "export const value{line} = {};",
            number.wrapping_mul(2_654_435_761).rotate_left(line)
        );
    }
    text
}

const SETTINGS: &str = "export const settings = {\n  language: \"en\",\n  theme: \"light\",\n};\n";

/// The change that the demo commits: a new file, and an edit by patch would do as well.
pub(super) fn changes(session: &str) -> Value {
    let settings = SETTINGS.replace(
        "  theme: \"light\",\n",
        "  theme: \"light\" as \"light\" | \"dark\",\n",
    );
    let toggle = "import { settings } from \"./settings\";\n\nexport function toggleDarkMode(): void {\n  \
                  settings.theme = settings.theme === \"dark\" ? \"light\" : \"dark\";\n}\n";
    json!({
        "sessionId": session,
        "files": [{"path": "src/settings.ts", "content": settings}, {"path": "src/dark-mode.ts", "content": toggle}],
    })
}

/// What plain git says of the branch on the remote.
pub(super) struct Seen {
    pub(super) subject: String,
    pub(super) author: String,
    pub(super) parent: String,
    pub(super) stat: String,
}

/// Looks at the branch, and checks the whole repository.
pub(super) fn inspect(bare: &Path, branch: &str) -> anyhow::Result<Seen> {
    let full = format!("refs/heads/{branch}");
    let ask = |args: &[&str]| -> anyhow::Result<String> {
        let output = git(bare)
            .args(args)
            .output()
            .context("`git` could not be started")?;
        if !output.status.success() {
            bail!(
                "`git {}` failed: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    ask(&["fsck", "--strict", "--no-dangling"])?;
    let toggle = ask(&["show", &format!("{full}:src/dark-mode.ts")])?;
    if !toggle.contains("toggleDarkMode") {
        bail!("the remote's `{branch}` has src/dark-mode.ts with another content");
    }
    Ok(Seen {
        subject: ask(&["log", "-1", "--format=%h %s", &full])?,
        author: ask(&["log", "-1", "--format=%an <%ae>, committed by %cn", &full])?,
        parent: ask(&["log", "-1", "--format=%h %s", &format!("{full}^")])?,
        stat: ask(&["diff", "--stat", &format!("{full}^"), &full])?,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demo makes and checks its repository with plain git"
)]
fn git(bare: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .arg("--git-dir")
        .arg(bare);
    command
}
