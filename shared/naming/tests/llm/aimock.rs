//! A real LLM server for tests: aimock, which `.ci/tools.sh` installs. It is told what to answer to which question.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mayfly_http::{GuardedClient, HeaderName, HeaderValue, HttpPolicy, Request, Url};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The only credential that the server takes.
pub(crate) const KEY: &str = "sk-ant-api03-right-key";

/// A running server; it ends with this value.
pub(crate) struct Aimock {
    child: Child,
    pub(crate) url: Url,
    _fixtures: tempfile::NamedTempFile,
}

impl Aimock {
    /// Starts a server with these fixtures on a port of its own, and waits until it listens.
    pub(crate) fn start(fixtures: &[Value]) -> Self {
        let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        write!(file, "{}", json!({ "fixtures": fixtures })).unwrap();
        let mut child = command(file.path())
            .spawn()
            .expect("node starts; run .ci/tools.sh, which installs it");
        let url = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .find_map(|line| listening_on(&line.unwrap()));
        let url = url.expect("aimock listens; its own words are above");
        Self {
            child,
            url,
            _fixtures: file,
        }
    }

    /// The requests that came, oldest first.
    pub(crate) async fn journal(&self) -> Vec<Value> {
        let request = Request::get(self.url.join("/__aimock/journal").unwrap()).header(
            HeaderName::from_static("x-api-key"),
            HeaderValue::from_static(KEY),
        );
        let response = client().send(request, &CancellationToken::new()).await.unwrap();
        serde_json::from_slice(&response.bytes(16 << 20).await.unwrap()).unwrap()
    }
}

impl Drop for Aimock {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A client that may reach this machine.
pub(crate) fn client() -> GuardedClient {
    GuardedClient::new(HttpPolicy {
        allow_private: true,
        ..HttpPolicy::default()
    })
    .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test starts the server that it asks")]
fn command(fixtures: &Path) -> Command {
    let modules = tools().join("node/node_modules");
    let program = modules.join("@copilotkit/aimock/dist/cli.js");
    assert!(
        program.is_file(),
        "{} is missing; run .ci/tools.sh, which installs it",
        program.display()
    );
    let own_node = modules.join(".bin/node");
    let mut command = Command::new(if own_node.is_file() {
        own_node
    } else {
        PathBuf::from("node")
    });
    command
        .arg(program)
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--strict",
            "--validate-on-load",
            "--fixtures",
        ])
        .arg(fixtures);
    command
        .env("AIMOCK_API_KEYS", KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn tools() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file())
        .unwrap();
    workspace.join(std::env::var_os("MAYFLY_TOOLS").unwrap_or_else(|| "target/tools".into()))
}

fn listening_on(line: &str) -> Option<Url> {
    line.split_once("listening on ")?.1.trim().parse().ok()
}
