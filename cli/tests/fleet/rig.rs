//! Starts the binary, and asks it.

use std::path::Path;

use mayfly_testkit::git_host::GitHost;
use mayfly_testkit::process::{Launch, Running};
use mayfly_testkit::repo::TestRepo;
use mayfly_testkit::sse::http_client;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A git host with a repository, a folder, and the binary to run in it.
pub(super) struct Rig {
    pub(super) host: GitHost,
    pub(super) folder: TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let host = GitHost::start();
        let repo = TestRepo::sample();
        repo.history(10);
        host.publish(&repo, "app");
        let folder = tempfile::tempdir().unwrap();
        for name in ["tmp", "storage"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { host, folder }
    }

    pub(super) fn tmp(&self) -> std::path::PathBuf {
        self.folder.path().join("tmp")
    }

    /// What stays in the scratch folder.
    pub(super) fn left_in_tmp(&self) -> Vec<std::path::PathBuf> {
        std::fs::read_dir(self.tmp())
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }

    pub(super) fn launch(&self, args: &[&str]) -> Launch {
        let storage = format!("file://{}", self.folder.path().join("storage").display());
        Launch::new(Path::new(env!("CARGO_BIN_EXE_mayfly")))
            .args(args)
            .env("TMP_DIR", self.tmp())
            .env("STORAGE_URL", storage)
            .env("ALLOW_PRIVATE_GIT_HOSTS", "true")
            .folder(self.folder.path())
    }

    /// Starts a process that announces its address, and gives both.
    pub(super) async fn start(&self, args: &[&str]) -> (Running, String) {
        let mut running = self.launch(args).start();
        let line = running.line_on_stdout("listening on ").await;
        let address = line.rsplit(' ').next().unwrap().to_owned();
        (running, format!("http://{address}"))
    }

    pub(super) fn clone_body(&self, session: &str) -> Value {
        json!({"sessionId": session, "repoUrl": self.host.url("app"), "accessToken": self.host.token()})
    }
}

pub(super) async fn post(base: &str, path: &str, body: &Value) -> reqwest::Response {
    http_client()
        .post(format!("{base}{path}"))
        .json(body)
        .send()
        .await
        .unwrap()
}

pub(super) async fn get(base: &str, path: &str) -> reqwest::Response {
    http_client().get(format!("{base}{path}")).send().await.unwrap()
}

pub(super) async fn get_json(base: &str, path: &str) -> Value {
    get(base, path).await.json().await.unwrap()
}
