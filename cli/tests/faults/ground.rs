//! A git host and an S3 server behind proxies that count, and workers that reach them only so.
//!
//! A state of both can be taken once and laid out again as often as a test needs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mayfly_protocol::{JobId, header};
use mayfly_storage::{ObjectStore, Precondition, S3Credentials, StorageError, StorageOptions};
use mayfly_testkit::chaos_proxy::{Chaos, ChaosProxy};
use mayfly_testkit::git_host::GitHost;
use mayfly_testkit::moto::Moto;
use mayfly_testkit::process::{Launch, Running};
use mayfly_testkit::repo::BareRepo;
use mayfly_testkit::sse::{Numbered, Stream, completed, http_client, read_whole};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The time that every job says it was accepted at, so that the same job makes the same commit in every round.
const ACCEPTED_AT: &str = "2026-01-02T03:04:05.678Z";
/// The largest object that these tests read back.
const MAX_OBJECT_BYTES: u64 = 64 << 20;
/// The name of the one session.
pub(super) const NAME: &str = "app";
/// The name of the one repository; a server of Git LFS wants an owner in it.
pub(super) const REPOSITORY: &str = "team/app";

pub(super) struct Ground {
    pub(super) host: GitHost,
    pub(super) chaos: Chaos,
    /// The storage, past the proxy.
    pub(super) storage: Arc<dyn ObjectStore>,
    storage_url: String,
    options: StorageOptions,
    git: ChaosProxy,
    s3: Option<ChaosProxy>,
    /// Decides over the storage of [`Ground::storage_by_the_clock`].
    pub(super) clock: Chaos,
    s3_by_the_clock: Option<ChaosProxy>,
    folder: TempDir,
}

/// What a state of the storage and the remote consists of.
pub(super) struct State {
    objects: Vec<(String, Bytes)>,
    remote: PathBuf,
    /// What the Git LFS server of the remote keeps.
    contents: PathBuf,
}

/// One job: where it is posted, and what.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) path: &'static str,
    pub(super) body: Value,
    pub(super) id: JobId,
    pub(super) attempt: u32,
}

impl Order {
    pub(super) fn new(path: &'static str, body: Value) -> Self {
        Self {
            path,
            body,
            id: JobId::new_now(),
            attempt: 1,
        }
    }

    /// The same job once more.
    pub(super) fn again(&self) -> Self {
        Self {
            attempt: self.attempt + 1,
            ..self.clone()
        }
    }

    /// The same request as a job of its own.
    pub(super) fn as_another(&self) -> Self {
        Self::new(self.path, self.body.clone())
    }
}

impl Ground {
    /// With a bucket on an S3 server, which workers reach through a proxy.
    pub(super) async fn in_a_bucket() -> Self {
        Self::in_a_bucket_before(GitHost::start()).await
    }

    /// The same with a host that has Git LFS.
    pub(super) async fn in_a_bucket_with_lfs() -> Self {
        let host = tokio::task::block_in_place(|| GitHost::builder().lfs().start());
        Self::in_a_bucket_before(host).await
    }

    async fn in_a_bucket_before(host: GitHost) -> Self {
        let moto = tokio::task::block_in_place(Moto::shared);
        let bucket = format!("bucket-{}", JobId::new_now());
        tokio::task::block_in_place(|| moto.create_bucket(&bucket));
        let mut options = StorageOptions::default();
        options.s3.endpoint = Some(moto.endpoint());
        options.s3.region = Some("us-east-1".to_owned());
        options.s3.credentials = Some(S3Credentials {
            access_key_id: "any".to_owned(),
            secret_access_key: "any".to_owned().into(),
        });
        let folder = tempfile::tempdir().unwrap();
        let mut ground = Self::with((folder, host), format!("s3://{bucket}"), options).await;
        ground.s3 = Some(ground.chaos.proxy("s3", &moto.endpoint()));
        ground.s3_by_the_clock = Some(ground.clock.proxy("s3", &moto.endpoint()));
        ground
    }

    /// With a folder as the storage.
    pub(super) async fn in_a_folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/storage", folder.path().display());
        Self::with((folder, GitHost::start()), url, StorageOptions::default()).await
    }

    async fn with((folder, host): (TempDir, GitHost), storage_url: String, options: StorageOptions) -> Self {
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let chaos = Chaos::new();
        let url = storage_url.parse().unwrap();
        Self {
            git: chaos.proxy("git", &host.origin()),
            s3: None,
            clock: Chaos::new(),
            s3_by_the_clock: None,
            storage: mayfly_storage::open(&url, &options).await.unwrap(),
            storage_url,
            options,
            host,
            chaos,
            folder,
        }
    }

    /// The storage below this prefix, by way of a server whose clock a test can set.
    pub(super) async fn storage_by_the_clock(&self, prefix: &str) -> Arc<dyn ObjectStore> {
        let url = format!("{}/{prefix}", self.storage_url).parse().unwrap();
        let mut options = self.options.clone();
        options.s3.endpoint = self.s3_by_the_clock.as_ref().map(ChaosProxy::origin);
        mayfly_storage::open(&url, &options).await.unwrap()
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// A worker whose sessions are below this prefix of the storage.
    pub(super) async fn worker(&self, prefix: &str) -> (Running, String) {
        started(self.launch(&[env!("CARGO_BIN_EXE_mayfly")], prefix)).await
    }

    /// The same, not started, by a command that ends with the binary.
    pub(super) fn launch(&self, command: &[&str], prefix: &str) -> Launch {
        let (program, arguments) = command.split_first().unwrap();
        let launch = Launch::new(program)
            .args(arguments)
            .args(["git-worker", "--port", "0", "--announce"])
            .env("TMP_DIR", self.tmp())
            .env("ALLOW_PRIVATE_GIT_HOSTS", "true");
        self.in_surroundings(launch, prefix)
    }

    /// With the storage below this prefix, which is reached by way of the proxy.
    pub(super) fn in_surroundings(&self, launch: Launch, prefix: &str) -> Launch {
        let mut launch = launch
            .env("STORAGE_URL", format!("{}/{prefix}", self.storage_url))
            .folder(self.folder.path());
        if let Some(s3) = &self.s3 {
            launch = launch
                // Every prefix is new: without this each worker would race for conditional writes first.
                .env("ACCEPT_ONE_WRITER", "true")
                .env("AWS_ENDPOINT_URL", s3.origin())
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", "any")
                .env("AWS_SECRET_ACCESS_KEY", "any");
        }
        launch
    }

    /// Has a fresh worker do the job, and sees it exit; its requests are counted.
    pub(super) async fn run(&self, prefix: &str, order: &Order) -> Vec<Numbered> {
        let (mut worker, base) = self.worker(prefix).await;
        self.chaos.behave();
        let events = read_whole(post(&base, order).await.unwrap()).await;
        assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
        events
    }

    /// The same for a job that must succeed.
    pub(super) async fn done(&self, prefix: &str, path: &'static str, body: Value) -> Value {
        completed(&self.run(prefix, &Order::new(path, body)).await).clone()
    }

    pub(super) fn repo_url(&self) -> String {
        format!("{}/{REPOSITORY}.git", self.git.origin())
    }

    pub(super) fn clone_body(&self, session: &str) -> Value {
        json!({"sessionId": session, "repoUrl": self.repo_url(), "accessToken": self.host.token()})
    }

    pub(super) fn body(&self, mut body: Value) -> Value {
        body["sessionId"] = NAME.into();
        body["githubAccessToken"] = self.host.token().into();
        body
    }

    /// Takes the state below this prefix, and that of the remote.
    pub(super) async fn take(&self, prefix: &str, bare: &BareRepo) -> State {
        let [remote, contents] = ["remote", "contents"].map(|what| {
            let folder = self.folder.path().join("states").join(prefix);
            folder.join(what)
        });
        copy(bare.path(), &remote);
        if let Some(folder) = self.host.lfs_contents() {
            copy(folder, &contents);
        }
        State {
            objects: self.objects(prefix).await,
            remote,
            contents,
        }
    }

    /// Lays a state out below another prefix, and puts the remote back into it.
    pub(super) async fn lay_out(&self, prefix: &str, state: &State, bare: &BareRepo) {
        std::fs::remove_dir_all(bare.path()).unwrap();
        copy(&state.remote, bare.path());
        if let Some(folder) = self.host.lfs_contents() {
            std::fs::remove_dir_all(folder).unwrap();
            copy(&state.contents, folder);
        }
        self.fill(prefix, &state.objects).await;
    }

    /// Puts these objects below a prefix.
    pub(super) async fn fill(&self, prefix: &str, objects: &[(String, Bytes)]) {
        for (key, content) in objects {
            let key = format!("{prefix}/{key}").parse().unwrap();
            let body = content.clone().into();
            self.storage.put(&key, body, Precondition::None).await.unwrap();
        }
    }

    /// All objects below the prefix, by the rest of their keys. What a killed process had asked for may be done while this looks, so an object
    /// that is listed may be gone.
    pub(super) async fn objects(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let below = format!("{prefix}/");
        let mut objects = Vec::new();
        for meta in self.storage.list(&below).await.unwrap() {
            let object = match self.storage.get(&meta.key, MAX_OBJECT_BYTES).await {
                Err(StorageError::NotFound { .. }) => continue,
                got => got.unwrap(),
            };
            let key = meta.key.as_str().strip_prefix(&below).unwrap().to_owned();
            objects.push((key, object.bytes));
        }
        objects
    }
}

/// Starts a worker, and gives its address.
pub(super) async fn started(launch: Launch) -> (Running, String) {
    let mut running = launch.start();
    let line = running.line_on_stdout("listening on ").await;
    let base = format!("http://{}", line.rsplit(' ').next().unwrap());
    (running, base)
}

/// Posts the job; an error where the worker is gone before it answers.
pub(super) async fn post(base: &str, order: &Order) -> reqwest::Result<reqwest::Response> {
    let request = http_client()
        .post(format!("{base}{}", order.path))
        .header(header::JOB_ID, order.id.as_str())
        .header(header::ATTEMPT, order.attempt)
        .header(header::ACCEPTED_AT, ACCEPTED_AT);
    request.json(&order.body).send().await
}

/// What comes of the job until the worker ends, however it does.
pub(super) async fn events_of(base: &str, order: &Order) -> Vec<Numbered> {
    match post(base, order).await {
        Ok(answer) => Stream::of(answer).rest().await,
        Err(_) => Vec::new(),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
