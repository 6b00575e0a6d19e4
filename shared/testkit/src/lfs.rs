//! A real Git LFS server that nobody here wrote: giftless, from the venv that `.ci/tools.sh` makes; and the real `git lfs` beside `git`.
//!
//! [`crate::git_host::GitHost`] stands before it, asks for its tokens, and records what comes. It ends with the test process.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::child_server::tools_folder;
use crate::git;
use crate::repo::authorise;

const PROGRAM: &str = r#"
import os, sys, threading, warnings
def end_with_parent():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
warnings.simplefilter("ignore")
from giftless.app import init_app
from giftless.auth.identity import Identity
class Everyone(Identity):
    name = id = "everyone"
    email = None
    def is_authorized(self, *_):
        return True
def everyone(_):
    return Everyone()
from werkzeug.serving import make_server
app = init_app(additional_config={
    "LEGACY_ENDPOINTS": False,
    "AUTH_PROVIDERS": ["__main__:everyone"],
    "PRE_AUTHORIZED_ACTION_PROVIDER": None,
    "TRANSFER_ADAPTERS": {"basic": {"factory": "giftless.transfer.basic_streaming:factory",
        "options": {"storage_class": "giftless.storage.local_storage:LocalStorage", "storage_options": {"path": sys.argv[1]}}}},
})
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"#;
/// Bytes of a request that is passed on.
const MAX_BODY_BYTES: usize = 64 << 20;

/// A running server.
#[derive(Debug)]
pub(crate) struct LfsServer {
    child: Child,
    addr: SocketAddr,
}

impl LfsServer {
    /// Starts it, with its contents in a folder.
    #[expect(clippy::disallowed_methods, reason = "tests start the servers that they need")]
    pub(crate) fn start(folder: &Path) -> Self {
        let python = tools_folder().join("lfs/bin/python");
        let child = Command::new(&python)
            .args(["-c", PROGRAM])
            .arg(folder)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            let path = python.display();
            panic!("the tests need the Git LFS server giftless at {path} ({error}): run `.ci/tools.sh` once, which installs it")
        });
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server says its port");
        let port = line
            .trim()
            .parse()
            .expect("giftless starts; see what it says when it is run by hand");
        Self {
            child,
            addr: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }
}

impl Drop for LfsServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What stands between a host and its server.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) server: LfsServer,
    pub(crate) client: reqwest::Client,
    /// The token that may do all, and the one that may only fetch.
    pub(crate) write: String,
    pub(crate) read: String,
}

/// The middleware: passes what is for Git LFS on, with a token that may do it; the server itself asks for none.
pub(crate) async fn front(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if !path.contains("/info/lfs/") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let may = |token: &str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")));
        parts
            .headers
            .get_all(header::AUTHORIZATION)
            .iter()
            .any(|value| *value == basic)
    };
    let is_batch = path.ends_with("/objects/batch");
    let reads =
        parts.method == Method::GET || (is_batch && !String::from_utf8_lossy(&body).contains("\"upload\""));
    if !may(&front.write) && !may(&front.read) {
        let challenge = [("lfs-authenticate", "Basic realm=\"test\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    if !reads && !may(&front.write) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut headers = parts.headers.clone();
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    let query = parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let url = format!("http://{}{path}{query}", front.server.addr);
    let sent = front
        .client
        .request(parts.method, url)
        .headers(headers)
        .body(body)
        .send()
        .await;
    let Ok(answer) = sent else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    let body = answer.bytes().await.unwrap_or_default();
    (status, headers, Body::from(body)).into_response()
}

/// Arguments for [`crate::repo::try_clone`] that have the real `git lfs` put contents into the worktree.
pub const SMUDGE: &[&str] = &[
    "--config=filter.lfs.clean=git-lfs clean -- %f",
    "--config=filter.lfs.smudge=git-lfs smudge -- %f",
    "--config=filter.lfs.process=git-lfs filter-process",
    "--config=filter.lfs.required=true",
];

/// Has the real `git lfs` care for a repository: its filters are set, and its hooks are not.
#[track_caller]
pub fn enable(repo: &Path) {
    run(repo, None, &["lfs", "install", "--local", "--skip-repo"]);
}

/// Sends all contents of a repository to a host, by the real `git lfs`.
#[track_caller]
pub fn push_contents(repo: &Path, url: &str, token: &str) {
    run(repo, Some(token), &["lfs", "push", "--all", url]);
}

#[track_caller]
fn run(repo: &Path, token: Option<&str>, arguments: &[&str]) {
    let mut command = git::command(repo);
    if let Some(token) = token {
        authorise(&mut command, token);
    }
    git::stdout(command.args(arguments));
}
