//! One worker a job, as in a fleet: started on a free port, given its job, read to the end, and looked at afterwards.

use std::path::Path;
use std::sync::Arc;

use bstr::ByteSlice as _;
use mayfly_git_worker::{GitLimits, GitWorker, GitWorkerConfig};
use mayfly_http::{GuardedClient, HttpPolicy};
use mayfly_naming::{LlmConfig, Namer};
use mayfly_protocol::{ErrorCode, Event, EventBody, Failure, JobId, JobKind, SessionId, Stage, TenantId};
use mayfly_session::{Manifest, SessionStore};
use mayfly_sse::{Decoded, Decoder};
use mayfly_storage::{ObjectStore, S3Credentials, StorageOptions};
use mayfly_testkit::git_host::GitHost;
use mayfly_testkit::s3::S3Place;
use mayfly_worker::{Ended, WorkerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A git host and an object storage, with workers to order.
pub(super) struct Rig {
    pub(super) host: GitHost,
    pub(super) storage: Arc<dyn ObjectStore>,
    pub(super) limits: GitLimits,
    pub(super) policy: HttpPolicy,
    pub(super) llm: Option<LlmConfig>,
    storage_folder: TempDir,
}

/// What came of a job.
pub(super) struct Ran {
    pub(super) events: Vec<Event>,
    pub(super) raw: String,
}

impl Rig {
    pub(super) async fn new() -> Self {
        Self::on(GitHost::start()).await
    }

    pub(super) async fn on(host: GitHost) -> Self {
        let storage_folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", storage_folder.path().display());
        Self::over(host, (&url, StorageOptions::default()), storage_folder).await
    }

    /// The same with a bucket on a real S3 server in place of the folder.
    pub(super) async fn in_a_bucket() -> Self {
        let place = tokio::task::block_in_place(S3Place::moto);
        let mut options = StorageOptions::default();
        options.s3.endpoint = Some(place.endpoint.clone());
        options.s3.region = Some("us-east-1".to_owned());
        options.s3.credentials = Some(S3Credentials {
            access_key_id: place.access_key_id.clone(),
            secret_access_key: place.secret_access_key.clone().into(),
        });
        let storage = (&*place.fresh_url(), options);
        Self::over(GitHost::start(), storage, tempfile::tempdir().unwrap()).await
    }

    async fn over(host: GitHost, (url, options): (&str, StorageOptions), storage_folder: TempDir) -> Self {
        let url = url.parse().unwrap();
        let storage = mayfly_storage::open(&url, &options).await.unwrap();
        Self {
            host,
            storage,
            limits: GitLimits::default(),
            policy: HttpPolicy {
                allow_private: true,
                ..HttpPolicy::default()
            },
            llm: None,
            storage_folder,
        }
    }

    fn worker(&self) -> GitWorker {
        let config = GitWorkerConfig {
            limits: self.limits.clone(),
            ..GitWorkerConfig::default()
        };
        let client = GuardedClient::new(self.policy.clone()).unwrap();
        GitWorker::new(
            config,
            Arc::clone(&self.storage),
            client.clone(),
            Namer::new(client, self.llm.clone()),
        )
    }

    /// Has a fresh worker do one job, and checks what holds for every job.
    pub(super) async fn job(&self, kind: JobKind, body: Value) -> Ran {
        self.job_as(kind, body, None).await
    }

    /// The same, as an attempt at a job that has its id already.
    pub(super) async fn job_as(&self, kind: JobKind, body: Value, attempt: Option<(&JobId, u32)>) -> Ran {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tmp = tempfile::tempdir().unwrap();
        let config = WorkerConfig {
            tmp_dir: tmp.path().to_owned(),
            ..WorkerConfig::default()
        };
        let serving = mayfly_worker::run(config, listener, self.worker(), CancellationToken::new());
        let asking = async {
            let client = mayfly_testkit::sse::http_client();
            let mut request = client
                .post(format!("http://{address}{}", kind.path()))
                .json(&body);
            if let Some((id, number)) = attempt {
                request = request
                    .header(mayfly_protocol::header::JOB_ID, id.as_str())
                    .header(mayfly_protocol::header::ATTEMPT, number)
                    .header(mayfly_protocol::header::ACCEPTED_AT, "2026-01-02T03:04:05.678Z");
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{body}");
            answer.text().await.unwrap()
        };
        let (ended, raw) = tokio::join!(serving, asking);
        assert_eq!(ended.unwrap(), Ended::JobDone);
        let ran = Ran {
            events: decode(&raw),
            raw,
        };
        ran.holds_together(kind);
        self.has_no_trace(tmp.path(), &ran);
        ran
    }

    pub(super) async fn clone(&self, session: &str, repository: &str) -> Value {
        self.job(JobKind::CloneRepository, self.clone_body(session, repository))
            .await
            .completed()
    }

    pub(super) fn clone_body(&self, session: &str, repository: &str) -> Value {
        json!({"sessionId": session, "repoUrl": self.host.url(repository), "accessToken": self.host.token()})
    }

    pub(super) async fn branch(&self, session: &str, body: Value) -> Ran {
        self.job(JobKind::CreateBranch, self.with_token(session, body))
            .await
    }

    pub(super) async fn commit(&self, session: &str, body: Value) -> Ran {
        self.job(JobKind::CommitAndPush, self.with_token(session, body))
            .await
    }

    pub(super) async fn apply(&self, session: &str, mut body: Value) -> Ran {
        body["sessionId"] = session.into();
        self.job(JobKind::ApplyChanges, body).await
    }

    /// Writes one file into the worktree.
    pub(super) async fn write(&self, session: &str, path: &str, content: &str) {
        self.apply(session, json!({"files": [{"path": path, "content": content}]}))
            .await
            .completed();
    }

    pub(super) fn with_token(&self, session: &str, mut body: Value) -> Value {
        body["sessionId"] = session.into();
        body["githubAccessToken"] = self.host.token().into();
        body
    }

    pub(super) fn sessions(&self) -> SessionStore {
        SessionStore::new(Arc::clone(&self.storage), TenantId::default())
    }

    pub(super) async fn manifest(&self, session: &str) -> Option<Manifest> {
        let id: SessionId = session.parse().unwrap();
        self.sessions()
            .load(&id)
            .await
            .unwrap()
            .map(|session| session.manifest)
    }

    /// Where everything is stored.
    pub(super) fn storage_folder(&self) -> &Path {
        self.storage_folder.path()
    }

    /// No file is left in the scratch folder, and no token is in an event or in the storage.
    fn has_no_trace(&self, tmp: &Path, ran: &Ran) {
        let left: Vec<_> = std::fs::read_dir(tmp)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let tokens = [
            self.host.token(),
            self.host.read_token(),
            self.host.forbidden_token(),
        ];
        for token in tokens {
            assert!(!ran.raw.contains(token), "a token is in the events: {}", ran.raw);
        }
        assert!(
            !holds(self.storage_folder.path(), &tokens),
            "a token is in the storage"
        );
    }
}

impl Ran {
    /// Exactly one terminal event, at the end; stages in the order of the contract.
    fn holds_together(&self, kind: JobKind) {
        let terminal: Vec<_> = self.events.iter().map(Event::is_terminal).collect();
        assert_eq!(terminal.iter().filter(|it| **it).count(), 1, "{}", self.raw);
        assert_eq!(terminal.last(), Some(&true), "{}", self.raw);
        let order = Stage::order(kind);
        let places: Vec<_> = self
            .stages()
            .iter()
            .map(|stage| order.iter().position(|it| it == stage))
            .collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{:?}",
            self.stages()
        );
    }

    /// The stages that were passed, each once.
    pub(super) fn stages(&self) -> Vec<Stage> {
        let mut stages: Vec<_> = self.events.iter().filter_map(stage).collect();
        stages.dedup();
        stages
    }

    pub(super) fn succeeded(&self) -> bool {
        matches!(
            self.events.last().map(|event| &event.body),
            Some(EventBody::Completed { .. })
        )
    }

    #[track_caller]
    pub(super) fn completed(&self) -> Value {
        match &self.events.last().unwrap().body {
            EventBody::Completed { data } => data.clone(),
            other => panic!("not completed: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn failed(&self, code: ErrorCode) -> Failure {
        match &self.events.last().unwrap().body {
            EventBody::Error(failure) if failure.code == code => failure.clone(),
            other => panic!("not failed with {code}: {other:?}"),
        }
    }
}

fn stage(event: &Event) -> Option<Stage> {
    match event.body {
        EventBody::Progress { stage, .. } => Some(stage),
        _ => None,
    }
}

fn decode(raw: &str) -> Vec<Event> {
    let messages = Decoder::new(1 << 20).push(raw.as_bytes()).unwrap();
    let mut events = Vec::new();
    for (index, decoded) in messages
        .into_iter()
        .filter(|it| matches!(it, Decoded::Message { .. }))
        .enumerate()
    {
        if let Decoded::Message { id, data, .. } = decoded {
            assert_eq!(id, Some((index + 1).to_string()), "ids count up from 1");
            events.push(serde_json::from_slice(&data).unwrap());
        }
    }
    events
}

/// Whether a file below the folder holds one of the tokens.
fn holds(folder: &Path, tokens: &[&str]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, tokens);
        }
        let holds_one = |content: Vec<u8>| tokens.iter().any(|token| content.contains_str(token));
        std::fs::read(&path).is_ok_and(holds_one)
    })
}
