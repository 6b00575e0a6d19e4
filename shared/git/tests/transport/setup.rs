//! What the tests of the transport share: a client that may reach loopback, a place to fetch into, and git's opinion of what came.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_git::fetch::{Destination, FetchError, FetchProgress, FetchRequest, Fetched, PackSink, fetch};
use mayfly_git::remote::{Credential, Remote, TransferLimits};
use mayfly_http::{GuardedClient, HttpPolicy};
use mayfly_protocol::CommitId;
use mayfly_testkit::git;
use mayfly_testkit::git_host::GitHost;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) fn client() -> GuardedClient {
    client_with(Duration::from_secs(10))
}

pub(crate) fn client_with(idle_timeout: Duration) -> GuardedClient {
    GuardedClient::new(HttpPolicy {
        allow_private: true,
        idle_timeout,
        ..HttpPolicy::default()
    })
    .unwrap()
}

pub(crate) fn remote(url: &str, token: Option<&str>) -> Remote {
    Remote {
        url: url.parse().unwrap(),
        credential: token.map(|token| Credential::from_token(&token.into())),
    }
}

pub(crate) fn commit(id: &str) -> CommitId {
    id.parse().unwrap()
}

/// A fetch to be run, with a folder of its own.
pub(crate) struct Run {
    pub(crate) client: GuardedClient,
    pub(crate) remote: Remote,
    pub(crate) request: FetchRequest,
    pub(crate) limits: TransferLimits,
    pub(crate) cancel: CancellationToken,
    pub(crate) into: TempDir,
    pub(crate) progress: Arc<Mutex<Vec<FetchProgress>>>,
}

impl Run {
    pub(crate) fn of(host: &GitHost, name: &str) -> Self {
        Self::at(&host.url(name), Some(host.token()))
    }

    pub(crate) fn at(url: &str, token: Option<&str>) -> Self {
        Self {
            client: client(),
            remote: remote(url, token),
            request: FetchRequest::default(),
            limits: TransferLimits::default(),
            cancel: CancellationToken::new(),
            into: tempfile::tempdir().unwrap(),
            progress: Arc::default(),
        }
    }

    pub(crate) async fn fetch(&self) -> Result<Fetched, FetchError> {
        self.fetch_with(None).await
    }

    pub(crate) async fn fetch_with<'a>(
        &'a self,
        copy: Option<&'a mut dyn PackSink>,
    ) -> Result<Fetched, FetchError> {
        let seen = self.progress.clone();
        let progress = Arc::new(move |progress| seen.lock().unwrap().push(progress));
        let (folder, limits) = (self.into.path(), &self.limits);
        let into = Destination { folder, copy };
        fetch(
            &self.client,
            &self.remote,
            &self.request,
            into,
            limits,
            progress,
            &self.cancel,
        )
        .await
    }

    /// Runs a fetch that must fail, and sees that it leaves nothing and tells no secret.
    pub(crate) async fn failure(&self) -> FetchError {
        let error = self.fetch().await.expect_err("the fetch must fail");
        assert_eq!(files(self.into.path()), Vec::<String>::new(), "{error}");
        if let Some(Credential::Basic { password, .. } | Credential::Bearer(password)) =
            &self.remote.credential
        {
            let shown = format!("{error} {error:?}");
            let secret = mayfly_protocol::ExposeSecret::expose_secret(password);
            assert!(!shown.contains(secret), "{shown}");
        }
        error
    }
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A bare repository that holds just the packs of some fetches, for git to judge.
pub(crate) struct Judge(TempDir);

impl Judge {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        git::stdout(git::command(folder.path()).args(["init", "--quiet", "--bare", "--template=", "."]));
        Self(folder)
    }

    /// Takes a pack and the boundary over.
    pub(crate) fn take(&self, fetched: &Fetched) -> &Self {
        let pack = fetched.pack.as_ref().expect("a pack");
        assert_eq!(std::fs::metadata(&pack.pack).unwrap().len(), pack.pack_bytes);
        assert_eq!(std::fs::metadata(&pack.index).unwrap().len(), pack.index_bytes);
        self.git(&["verify-pack", pack.index.to_str().unwrap()]);
        for file in [&pack.pack, &pack.index] {
            let target = self.0.path().join("objects/pack").join(file.file_name().unwrap());
            std::fs::copy(file, target).unwrap();
        }
        let boundary: String = fetched
            .shallow
            .iter()
            .map(|commit| format!("{commit}\n"))
            .collect();
        if !boundary.is_empty() {
            std::fs::write(self.0.path().join("shallow"), boundary).unwrap();
        }
        self
    }

    /// Sees that git finds everything behind the tip and nothing wrong with it, and gives the number of commits.
    pub(crate) fn check(&self, tip: CommitId) -> usize {
        self.git(&["update-ref", "refs/heads/judged", &tip.to_string()]);
        self.git(&["fsck", "--strict", "--full"]);
        self.git(&["rev-list", "judged"]).lines().count()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git::text(git::command(self.0.path()).args(arguments))
    }
}
