//! The plain `git` program against the served repositories.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests run git, which is what the server is for"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mayfly_git_server::{Access, GitServer, GitServerConfig, Limits, Permission, init_bare};
use mayfly_protocol::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    folder: tempfile::TempDir,
    server: GitServer,
}

impl Host {
    async fn start(anonymous: Permission) -> Self {
        Self::start_with(anonymous, Limits::default()).await
    }

    async fn start_with(anonymous: Permission, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("served");
        init_bare(&root, "app", "trunk").unwrap();
        let access = |token: &str, permission| Access {
            token: SecretString::from(token.to_owned()),
            user: format!("user-{token}"),
            permission,
        };
        let tokens = vec![
            access("writer", Permission::Write),
            access("reader", Permission::Read),
            access("nobody", Permission::None),
        ];
        let config = GitServerConfig {
            root,
            tokens,
            anonymous,
        };
        let server = GitServer::start_with(config, limits).await.unwrap();
        Self { folder, server }
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("served/app.git")
    }

    fn url(&self, token: &str) -> String {
        let plain = self.server.url("app");
        plain.replace("http://", &format!("http://x-access-token:{token}@"))
    }

    /// A clone with one commit that is not pushed yet.
    async fn work(&self) -> PathBuf {
        let work = self.folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        std::fs::write(work.join("file"), "words\n").unwrap();
        ok(git(&work, &["init", "-q", "-b", "trunk"]).await);
        ok(git(&work, &["add", "."]).await);
        ok(git(&work, &["commit", "-q", "-m", "first"]).await);
        work
    }

    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.server.addr()).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn status_of(&self, path: &str, token: Option<&str>) -> String {
        let credentials = token.map(|token| STANDARD.encode(format!("x:{token}")));
        let header = credentials.map_or(String::new(), |it| format!("Authorization: Basic {it}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        let answer = self.raw(request.as_bytes()).await;
        if answer.starts_with("HTTP/1.1 401") {
            assert!(
                answer.to_lowercase().contains("www-authenticate: basic"),
                "{answer}"
            );
        }
        answer.split(' ').nth(1).unwrap().to_owned()
    }
}

fn git_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "T")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "t@example.com")))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn git(folder: &Path, arguments: &[&str]) -> Output {
    git_command(folder, arguments).output().await.unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn what_is_pushed_can_be_cloned() {
    let host = Host::start(Permission::None).await;
    let work = host.work().await;
    ok(git(&work, &["push", "-q", &host.url("writer"), "trunk"]).await);
    ok(git(host.folder.path(), &["clone", "-q", &host.url("reader"), "copy"]).await);
    let head = ok(git(&work, &["rev-parse", "HEAD"]).await);
    let copy = host.folder.path().join("copy");
    assert_eq!(ok(git(&copy, &["rev-parse", "HEAD"]).await), head);
    assert_eq!(
        ok(git(&copy, &["symbolic-ref", "HEAD"]).await),
        "refs/heads/trunk"
    );
    ok(git(&host.bare(), &["fsck", "--strict"]).await);
    host.server.shutdown().await;
}

#[tokio::test]
async fn large_packs_go_both_ways() {
    let host = Host::start(Permission::None).await;
    let work = host.work().await;
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33).to_le_bytes()[0]
    })
    .take(8 << 20)
    .collect();
    std::fs::write(work.join("noise"), &noise).unwrap();
    ok(git(&work, &["add", "."]).await);
    ok(git(&work, &["commit", "-q", "-m", "noise"]).await);
    ok(git(&work, &["push", "-q", &host.url("writer"), "trunk"]).await);
    let pushed = host.server.traffic();
    ok(git(host.folder.path(), &["clone", "-q", &host.url("writer"), "copy"]).await);
    assert!(std::fs::read(host.folder.path().join("copy/noise")).unwrap() == noise);
    let size = noise.len() as u64;
    let moved = |bytes: u64| (size..size + size / 50).contains(&bytes);
    assert!(moved(pushed.received) && pushed.sent < size / 50, "{pushed:?}");
    let all = host.server.traffic();
    assert!(moved(all.sent - pushed.sent), "{all:?}");
    assert!(all.received - pushed.received < size / 50, "{all:?}");
}

#[tokio::test]
async fn fetching_speaks_protocol_version_2() {
    let host = Host::start(Permission::Read).await;
    let url = host.server.url("app");
    let traced = git_command(host.folder.path(), &["ls-remote", &url])
        .env("GIT_TRACE_PACKET", "1")
        .output()
        .await
        .unwrap();
    assert!(stderr(&traced).contains("git< version 2"), "{}", stderr(&traced));
}

#[tokio::test]
async fn a_compressed_request_is_understood() {
    let host = Host::start(Permission::Read).await;
    let mut gzip = std::process::Command::new("gzip")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin
        .take()
        .unwrap()
        .write_all(b"0014command=ls-refs\n0000")
        .unwrap();
    let body = gzip.wait_with_output().unwrap().stdout;
    let mut request = format!(
        "POST /app.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\nGit-Protocol: version=2\r\n\
         Content-Type: application/x-git-upload-pack-request\r\nContent-Encoding: gzip\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let answer = host.raw(&request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("application/x-git-upload-pack-result"),
        "{answer}"
    );
    assert!(answer.contains("0000"), "{answer}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let host = Host::start(Permission::None).await;
    let fetch = |name: &str| format!("/{name}.git/info/refs?service=git-upload-pack");
    let push = "/app.git/info/refs?service=git-receive-pack";
    for (path, token, status) in [
        (&*fetch("app"), Some("reader"), "200"),
        (&*fetch("app"), None, "401"),
        (&*fetch("app"), Some("wrong"), "401"),
        (&*fetch("app"), Some("nobody"), "403"),
        (&*fetch("absent"), Some("reader"), "404"),
        (&*fetch("absent"), None, "401"),
        (&*fetch(".."), Some("reader"), "404"),
        (push, Some("writer"), "200"),
        (push, Some("reader"), "403"),
        (push, None, "401"),
        ("/app.git/HEAD", Some("writer"), "404"),
        ("/app.git/config", Some("writer"), "404"),
    ] {
        assert_eq!(host.status_of(path, token).await, status, "{path} {token:?}");
    }
}

#[tokio::test]
async fn the_plain_client_is_refused_without_the_right_token() {
    let host = Host::start(Permission::None).await;
    let work = host.work().await;
    let denied = git(&work, &["push", &host.url("reader"), "trunk"]).await;
    assert!(stderr(&denied).contains("403"), "{}", stderr(&denied));
    let anonymous = git(&work, &["push", &host.server.url("app"), "trunk"]).await;
    assert!(!anonymous.status.success());
    let unknown = git(&work, &["ls-remote", &host.url("wrong")]).await;
    assert!(
        stderr(&unknown).contains("Authentication failed"),
        "{}",
        stderr(&unknown)
    );
}

#[tokio::test]
async fn hooks_see_the_user_and_their_words_reach_the_client() {
    let host = Host::start(Permission::None).await;
    let work = host.work().await;
    write_hook(&host.bare(), "echo \"not you, $REMOTE_USER\" >&2; exit 1");
    let refused = git(&work, &["push", &host.url("writer"), "trunk"]).await;
    assert!(
        stderr(&refused).contains("not you, user-writer"),
        "{}",
        stderr(&refused)
    );
    assert!(!refused.status.success());
}

/// The hook holds the writing end of a pipe, so that the end of the pipe is the end of the hook.
struct HeldPush {
    alive: pipe::Receiver,
    client: tokio::process::Child,
}

impl HeldPush {
    async fn begin(host: &Host) -> Self {
        let work = host.work().await;
        let fifo = host.folder.path().join("alive");
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .await
                .unwrap()
                .success()
        );
        let mut alive = pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        write_hook(
            &host.bare(),
            &format!("exec 9>'{}'; echo >&9; sleep 1000", fifo.display()),
        );
        let client = git_command(&work, &["push", "-q", &host.url("writer"), "trunk"])
            .process_group(0)
            .spawn()
            .unwrap();
        let mut started = [0; 1];
        tokio::time::timeout(PATIENCE, alive.read_exact(&mut started))
            .await
            .unwrap()
            .unwrap();
        Self { alive, client }
    }

    async fn hook_ends(&mut self) {
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, self.alive.read_to_end(&mut rest))
            .await
            .expect("the hook outlived its client")
            .unwrap();
    }
}

#[tokio::test]
async fn git_ends_when_its_client_goes_away() {
    let host = Host::start(Permission::None).await;
    let mut push = HeldPush::begin(&host).await;
    // The connection is held by a helper of `git`; both are of one group.
    let group = nix::unistd::Pid::from_raw(push.client.id().unwrap().cast_signed());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    push.client.wait().await.unwrap();
    push.hook_ends().await;
}

#[tokio::test]
async fn shutdown_ends_what_runs() {
    let host = Host::start(Permission::None).await;
    let mut push = HeldPush::begin(&host).await;
    host.server.shutdown().await;
    push.hook_ends().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let limits = Limits {
        request_timeout: Duration::from_secs(3),
        ..Limits::default()
    };
    let host = Host::start_with(Permission::None, limits).await;
    let mut push = HeldPush::begin(&host).await;
    push.hook_ends().await;
    assert!(!push.client.wait().await.unwrap().success());
}

fn write_hook(bare: &Path, script: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::create_dir_all(bare.join("hooks")).unwrap();
    let mut hook = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(bare.join("hooks/pre-receive"))
        .unwrap();
    hook.write_all(format!("#!/bin/sh\n{script}\n").as_bytes())
        .unwrap();
}
