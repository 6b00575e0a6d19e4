//! A steady load: so many sessions, each of which clones, makes a branch, and then changes a file, commits and pushes again and again.
//!
//! What is asked for is known to the last commit, so that what arrived can be held against it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::client::{Client, Seen};

/// How long one request is repeated before its session is given up.
const PATIENCE: Duration = Duration::from_secs(240);
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// A job that is over, or was given up.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Which step of the test it began in.
    pub(super) step: usize,
    /// When it began, since 1970.
    pub(super) at: Duration,
    /// The idempotency key with which it was sent.
    pub(super) key: String,
    pub(super) seen: Seen,
}

/// What a session asked for and was told is done.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    pub(super) session: String,
    pub(super) branch: String,
    /// The subjects of the commits that are done.
    pub(super) commits: Vec<String>,
    /// Why the session ended before its time.
    pub(super) failure: Option<String>,
}

/// What all sessions write into.
#[derive(Debug, Default)]
struct Book {
    jobs: Mutex<Vec<Job>>,
    /// The step that runs now.
    step: AtomicUsize,
    ending: AtomicBool,
}

/// The sessions at work.
#[derive(Debug)]
pub(super) struct Load {
    book: Arc<Book>,
    sessions: Vec<JoinHandle<Account>>,
}

/// Where the sessions work.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) repository: String,
    pub(super) token: String,
    /// What the names of the sessions and of their branches begin with.
    pub(super) name: &'static str,
}

impl Load {
    /// Begins with so many sessions.
    pub(super) fn start(target: &Target, sessions: usize) -> Self {
        let book = Arc::new(Book::default());
        let begin = |number: usize| {
            let (book, target) = (Arc::clone(&book), target.clone());
            std::thread::spawn(move || Session::new(book, target, number).work())
        };
        Self {
            sessions: (1..=sessions).map(begin).collect(),
            book: Arc::clone(&book),
        }
    }

    /// The next step begins.
    pub(super) fn next_step(&self) {
        self.book.step.fetch_add(1, Ordering::Relaxed);
    }

    /// The jobs so far.
    pub(super) fn jobs(&self) -> Vec<Job> {
        self.book
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the sessions to end after what they are at.
    pub(super) fn end(&self) {
        self.book.ending.store(true, Ordering::Relaxed);
    }

    /// Whether every session has ended.
    pub(super) fn is_over(&self) -> bool {
        self.sessions.iter().all(JoinHandle::is_finished)
    }

    /// What the sessions did; they have ended.
    pub(super) fn accounts(&mut self) -> Vec<Account> {
        let panicked = |_| Account {
            failure: Some("its thread panicked".to_owned()),
            ..Account::default()
        };
        self.sessions
            .drain(..)
            .map(|session| session.join().unwrap_or_else(panicked))
            .collect()
    }
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

struct Session {
    book: Arc<Book>,
    target: Target,
    account: Account,
    /// Idempotency keys so far.
    keys: usize,
}

impl Session {
    fn new(book: Arc<Book>, target: Target, number: usize) -> Self {
        let account = Account {
            session: format!("{}-{number}", target.name),
            branch: format!("{}/{number}", target.name),
            ..Account::default()
        };
        Self {
            book,
            target,
            account,
            keys: 0,
        }
    }

    fn work(mut self) -> Account {
        if let Err(failure) = self.rounds() {
            self.account.failure = Some(failure);
        }
        self.account
    }

    fn rounds(&mut self) -> Result<(), String> {
        let (url, token) = (self.target.repository.clone(), self.target.token.clone());
        let session = self.account.session.clone();
        self.done(
            "/clone-repository",
            &json!({"sessionId": session, "repoUrl": url, "branch": "main", "accessToken": token}),
        )?;
        self.branch()?;
        for round in 1.. {
            if self.book.ending.load(Ordering::Relaxed) {
                break;
            }
            let subject = format!("{} {round}", self.account.branch);
            let files =
                json!([{"path": format!("{session}/{round}.txt"), "content": format!("{subject}\n")}]);
            self.done("/apply-changes", &json!({"sessionId": session, "files": files}))?;
            let commit = json!({"sessionId": session, "githubAccessToken": token, "message": subject});
            self.done("/commit-and-push", &commit)?;
            self.account.commits.push(subject);
        }
        Ok(())
    }

    /// Makes the branch. Where an earlier try made it and only the answer was lost, the session moves there.
    fn branch(&mut self) -> Result<(), String> {
        let Account { session, branch, .. } = self.account.clone();
        let (url, token) = (self.target.repository.clone(), self.target.token.clone());
        let make = json!({"sessionId": session, "userRequest": "Load", "branchName": branch, "githubAccessToken": token});
        match self.done("/create-branch", &make) {
            Err(code) if code.ends_with("branch_exists") => {
                let pull =
                    json!({"sessionId": session, "repoUrl": url, "branch": branch, "accessToken": token});
                self.done("/clone-repository", &pull).map(drop)
            }
            result => result.map(drop),
        }
    }

    /// Repeats a request for as long as its error says that it may be repeated. It keeps its idempotency key until a job has ended.
    fn done(&mut self, path: &str, body: &Value) -> Result<Value, String> {
        let begun = Instant::now();
        let mut key = self.next_key();
        loop {
            let (at, step) = (now(), self.book.step.load(Ordering::Relaxed));
            let seen = self.target.client.job(path, body, &key);
            let job = Job {
                step,
                at,
                key: key.clone(),
                seen: seen.clone(),
            };
            self.book
                .jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(job);
            if let Some(data) = seen.data {
                return Ok(data);
            }
            if seen.terminals > 0 {
                key = self.next_key();
            }
            let code = seen.code.unwrap_or_default();
            if !seen.is_retryable || begun.elapsed() > PATIENCE {
                return Err(format!("{path}: {code}"));
            }
            sleep(BETWEEN_TRIES);
        }
    }

    fn next_key(&mut self) -> String {
        self.keys += 1;
        format!("{}-{}", self.account.session, self.keys)
    }
}
