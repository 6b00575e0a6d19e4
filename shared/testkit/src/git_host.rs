//! A git host that can be told to misbehave: the real [`mayfly_git_server`] behind scripted faults, with a record of all requests.
//!
//! It serves from threads of its own, so tests may block. It must not know the clients that it is served to.

mod fault;
mod record;
mod wrong;

pub use fault::{Fault, On};
pub use record::Recorded;

use std::path::Path;
use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use mayfly_git_server::{Access, GitServerConfig, Permission};
use mayfly_protocol::SecretString;
use tempfile::TempDir;
use uuid::Uuid;

use crate::https::TestCa;
use crate::lfs::{self, Front, LfsServer};
use crate::repo::{BareRepo, TestRepo};
use crate::server::TestServer;

use fault::Script;
use record::Record;

/// A running host with a folder of its own; it ends when it is dropped.
#[derive(Debug)]
pub struct GitHost {
    folder: TempDir,
    server: TestServer,
    state: Arc<State>,
    tokens: Tokens,
    /// What the Git LFS server keeps.
    contents: Option<TempDir>,
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    record: Record,
}

/// The tokens of a host, different in each, so that each is a canary.
#[derive(Debug, Clone)]
struct Tokens {
    write: String,
    read: String,
    forbidden: String,
}

/// What a host is to be like.
#[derive(Debug)]
pub struct Builder<'a> {
    anonymous: Permission,
    ca: Option<&'a TestCa>,
    lfs: bool,
}

impl<'a> Builder<'a> {
    /// What may be done without a token; nothing by default.
    #[must_use]
    pub fn anonymous(mut self, permission: Permission) -> Self {
        self.anonymous = permission;
        self
    }

    /// Serves over TLS with a certificate of this authority.
    #[must_use]
    pub fn https(mut self, ca: &'a TestCa) -> Self {
        self.ca = Some(ca);
        self
    }

    /// Has Git LFS, by a real server that nobody here wrote.
    #[must_use]
    pub fn lfs(mut self) -> Self {
        self.lfs = true;
        self
    }

    /// Starts it.
    pub fn start(self) -> GitHost {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokens = Tokens::new();
        let state = Arc::new(State::default());
        let config = GitServerConfig {
            root: folder.path().to_owned(),
            tokens: tokens.accesses(),
            anonymous: self.anonymous,
        };
        let misbehave = from_fn_with_state(state.clone(), wrong::misbehave);
        let mut router = mayfly_git_server::router(config);
        let contents = self.lfs.then(|| tempfile::tempdir().expect("a temporary folder"));
        if let Some(contents) = &contents {
            let front = Front {
                server: LfsServer::start(contents.path()),
                client: crate::sse::http_client(),
                write: tokens.write.clone(),
                read: tokens.read.clone(),
            };
            router = router.layer(from_fn_with_state(Arc::new(front), lfs::front));
        }
        let router = router.layer(misbehave);
        let server = match self.ca {
            None => TestServer::http(router),
            Some(ca) => TestServer::https(router, ca.server_config()),
        };
        GitHost {
            folder,
            server,
            state,
            tokens,
            contents,
        }
    }
}

impl Tokens {
    fn new() -> Self {
        let token = |what: &str| format!("{what}_{}", Uuid::new_v4().simple());
        Self {
            write: token("write"),
            read: token("read"),
            forbidden: token("forbidden"),
        }
    }

    fn accesses(&self) -> Vec<Access> {
        let access = |token: &str, permission| Access {
            token: SecretString::from(token.to_owned()),
            user: "x-access-token".to_owned(),
            permission,
        };
        vec![
            access(&self.write, Permission::Write),
            access(&self.read, Permission::Read),
            access(&self.forbidden, Permission::None),
        ]
    }
}

impl GitHost {
    /// A host over plain HTTP that asks for a token.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A host to one's own taste.
    pub fn builder<'a>() -> Builder<'a> {
        Builder {
            anonymous: Permission::None,
            ca: None,
            lfs: false,
        }
    }

    /// The folder of the bare repositories.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}.git", self.origin())
    }

    /// Where the Git LFS server keeps its contents, if there is one. It looks at the files whenever it is asked.
    pub fn lfs_contents(&self) -> Option<&Path> {
        self.contents.as_ref().map(TempDir::path)
    }

    /// Scheme, host and port, as in `http://127.0.0.1:40123`.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.addr().port()
    }

    /// A token that may push.
    pub fn token(&self) -> &str {
        &self.tokens.write
    }

    /// A token that may only fetch; a push with it is answered 403.
    pub fn read_token(&self) -> &str {
        &self.tokens.read
    }

    /// A token that is known and may nothing: 403.
    pub fn forbidden_token(&self) -> &str {
        &self.tokens.forbidden
    }

    /// Puts a copy of the repository on the host.
    pub fn publish(&self, repo: &TestRepo, name: &str) -> BareRepo {
        repo.bare_into(self.root(), name)
    }

    /// Puts an empty repository on the host.
    pub fn publish_empty(&self, name: &str, head: &str) -> BareRepo {
        BareRepo::init(self.root(), name, head)
    }

    /// From now on, does this wrong on every such request.
    pub fn fail(&self, on: On, fault: Fault) {
        self.state.script.add(on, None, fault);
    }

    /// Does this wrong on the next `times` such requests. Of several faults that fit, the one that was added first is used up first.
    pub fn fail_times(&self, on: On, times: usize, fault: Fault) {
        self.state.script.add(on, Some(times), fault);
    }

    /// Behaves again.
    pub fn behave(&self) {
        self.state.script.clear();
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.record.snapshot()
    }

    /// The requests of a kind.
    pub fn requests_on(&self, on: &On) -> Vec<Recorded> {
        let fits = |request: &Recorded| on.fits(&request.method, &request.path, &request.query);
        self.requests().into_iter().filter(fits).collect()
    }

    /// Bytes of all answers' bodies so far.
    pub fn bytes_sent(&self) -> u64 {
        self.requests().iter().map(|request| request.bytes_sent).sum()
    }

    /// Bytes of all requests' bodies so far.
    pub fn bytes_received(&self) -> u64 {
        self.requests().iter().map(|request| request.bytes_received).sum()
    }
}
