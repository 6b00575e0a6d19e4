//! `mayfly clone`, `branch`, `apply` and `commit`: the jobs, from the command line.
//!
//! The token for the git host comes from GIT_TOKEN, the credential for the LLM from CLAUDE_CREDENTIALS, or from the files that `NAME_FILE`
//! names; neither has a flag.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use mayfly_protocol::{JobKind, SessionId};
use serde_json::{Value, json};

use super::ask::{Body, WatchOptions, run};
use super::exit::ClientError;

const GIT_TOKEN: &str = "GIT_TOKEN";
const LLM_CREDENTIAL: &str = "CLAUDE_CREDENTIALS";
/// The most that a gateway takes in one body, in bytes.
const MAX_BODY_BYTES: u64 = 16 * 1024 * 1024;

/// Clone a repository into a session, or pull into one that exists.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    /// Address of the repository.
    repo_url: String,
    /// The session.
    session: SessionId,
    /// Branch; the remote's default when absent.
    #[arg(long, short)]
    branch: Option<String>,
    /// Stand at this commit instead of the branch's tip.
    #[arg(long)]
    commit: Option<String>,
    /// Commits of history; chosen by the service when absent.
    #[arg(long, conflicts_with = "unshallow")]
    depth: Option<u32>,
    /// All history, however large.
    #[arg(long)]
    unshallow: bool,
    /// The contents of Git LFS, too.
    #[arg(long)]
    lfs: bool,
    #[command(flatten)]
    watch: WatchOptions,
}

pub(crate) async fn clone(args: CloneArgs) -> Result<(), ClientError> {
    let body = Body::default()
        .with("sessionId", args.session.as_str())
        .with("repoUrl", args.repo_url)
        .with_some("branch", args.branch)
        .with_some("commit", args.commit)
        .with_some("depth", args.depth)
        .with_flag("unshallow", args.unshallow, true)
        .with_flag("lfs", args.lfs, true)
        .with_secret("accessToken", GIT_TOKEN)?;
    run(&args.watch, "clone", JobKind::CloneRepository, body).await
}

/// Make a branch in a session, and push it.
#[derive(Debug, Args)]
pub(crate) struct BranchArgs {
    /// The session.
    session: SessionId,
    /// What the branch is for; its name is made from it.
    request: String,
    /// The name, when you choose it.
    #[arg(long)]
    name: Option<String>,
    /// Branch to begin from; the session's own when absent.
    #[arg(long)]
    base: Option<String>,
    /// Clone this repository first when the session does not exist.
    #[arg(long)]
    repo_url: Option<String>,
    /// Leave the branch in the session.
    #[arg(long)]
    no_push: bool,
    #[command(flatten)]
    watch: WatchOptions,
}

pub(crate) async fn branch(args: BranchArgs) -> Result<(), ClientError> {
    let body = Body::default()
        .with("sessionId", args.session.as_str())
        .with("userRequest", args.request)
        .with_some("branchName", args.name)
        .with_some("baseBranch", args.base)
        .with_some("repoUrl", args.repo_url)
        .with_flag("push", args.no_push, false)
        .with_secret("githubAccessToken", GIT_TOKEN)?
        .with_secret("claudeCredentials", LLM_CREDENTIAL)?;
    run(&args.watch, "branch", JobKind::CreateBranch, body).await
}

/// Change files of a session: by a patch, or by whole files.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The session.
    session: SessionId,
    /// File of a unified diff, as `git diff` writes it; `-` or nothing for standard input.
    patch: Option<PathBuf>,
    /// A whole file: `PATH` in the session from the file of the same name here, or `PATH=FILE`; may be given several times.
    #[arg(long = "file", value_name = "PATH[=FILE]", conflicts_with = "patch")]
    files: Vec<String>,
    /// A file that goes; may be given several times.
    #[arg(long = "delete", value_name = "PATH", conflicts_with = "patch")]
    deleted: Vec<String>,
    #[command(flatten)]
    watch: WatchOptions,
}

pub(crate) async fn apply(args: ApplyArgs) -> Result<(), ClientError> {
    let body = Body::default().with("sessionId", args.session.as_str());
    let body = match args.files.is_empty() && args.deleted.is_empty() {
        true => body.with("patch", patch(args.patch.as_deref())?),
        false => body.with("files", changes(&args.files, &args.deleted)?),
    };
    run(&args.watch, "apply", JobKind::ApplyChanges, body).await
}

fn patch(file: Option<&Path>) -> anyhow::Result<String> {
    let bytes = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => read(file)?,
        None => {
            let mut bytes = Vec::new();
            let read = std::io::stdin()
                .lock()
                .take(MAX_BODY_BYTES + 1)
                .read_to_end(&mut bytes);
            read.context("the patch cannot be read from standard input")?;
            bytes
        }
    };
    if bytes.len() as u64 > MAX_BODY_BYTES {
        bail!("the patch has more than {MAX_BODY_BYTES} bytes, more than a gateway takes; apply it in parts");
    }
    String::from_utf8(bytes).map_err(|_| {
        anyhow!("the patch is not UTF-8, and JSON can carry nothing else; send such files whole, with --file")
    })
}

fn changes(files: &[String], deleted: &[String]) -> anyhow::Result<Value> {
    let mut changes = Vec::new();
    for file in files {
        let (path, here) = file.split_once('=').unwrap_or((file, file));
        let (bytes, mode) = (read(Path::new(here))?, mode(Path::new(here))?);
        changes.push(match String::from_utf8(bytes) {
            Ok(text) => json!({"path": path, "content": text, "mode": mode}),
            Err(error) => json!({"path": path, "contentBase64": base64(error.as_bytes()), "mode": mode}),
        });
    }
    changes.extend(deleted.iter().map(|path| json!({"path": path, "delete": true})));
    Ok(changes.into())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let named = || format!("{} cannot be read", file.display());
    let bytes = std::fs::metadata(file).with_context(named)?.len();
    if bytes > MAX_BODY_BYTES {
        bail!(
            "{} has {bytes} bytes, more than a gateway takes ({MAX_BODY_BYTES})",
            file.display()
        );
    }
    std::fs::read(file).with_context(named)
}

/// The mode that git records for a file of this machine.
fn mode(file: &Path) -> anyhow::Result<&'static str> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(file)?.permissions().mode();
    Ok(if mode & 0o100 == 0 { "100644" } else { "100755" })
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Commit what a session's worktree holds, and push it.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// The session.
    session: SessionId,
    /// The commit message; made from the changes when absent.
    #[arg(long, short)]
    message: Option<String>,
    /// The author, as `Name <address>`.
    #[arg(long)]
    author: Option<String>,
    /// Leave the commit in the session.
    #[arg(long)]
    no_push: bool,
    #[command(flatten)]
    watch: WatchOptions,
}

pub(crate) async fn commit(args: CommitArgs) -> Result<(), ClientError> {
    let body = Body::default()
        .with("sessionId", args.session.as_str())
        .with_some("message", args.message)
        .with_some("author", args.author.as_deref().map(author).transpose()?)
        .with_flag("push", args.no_push, false)
        .with_secret("githubAccessToken", GIT_TOKEN)?
        .with_secret("claudeCredentials", LLM_CREDENTIAL)?;
    run(&args.watch, "commit", JobKind::CommitAndPush, body).await
}

fn author(text: &str) -> anyhow::Result<Value> {
    let parts = text.strip_suffix('>').and_then(|rest| rest.split_once('<'));
    let (name, email) = parts.context("--author is not of the form `Name <address>`")?;
    Ok(json!({"name": name.trim(), "email": email.trim()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_has_a_name_and_an_address() {
        assert_eq!(
            author("Ada Lovelace <ada@example.com>").unwrap(),
            json!({"name": "Ada Lovelace", "email": "ada@example.com"})
        );
        assert!(author("Ada").is_err());
        assert!(author("Ada <ada").is_err());
    }
}
