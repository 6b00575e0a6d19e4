//! A fleet of worker processes on this machine, and the supervisor that keeps them ready.
//!
//! Each worker is a process of its own with its own scratch folder, takes one job and exits; another is started in its place at once. More processes
//! are kept ready than jobs may run, so that a job does not wait for a start. This module must not know jobs.
//!
//! # What a worker process must do
//!
//! It is started as `<program> <args> --port 0 --announce --exit-with-parent`, with `TMP_DIR` and `WORKER_TOKEN` in its environment, in a process group of its
//! own (a terminal's Ctrl-C reaches only the supervisor). The first line on its standard output is `listening on <address>:<port>`. It drains and exits on SIGTERM, and
//! when its standard input ends: that pipe is held by the supervisor, so that a supervisor which is killed leaves no worker. It exits with code 0 after its job.

mod child;
mod slot;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mayfly_protocol::SecretString;
use mayfly_telemetry::task;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fleet::WorkerKind;
use crate::fleet::roster::{Member, Process, UsedMark, WorkerKey};
use slot::Slot;

/// What a supervisor runs, and how.
#[derive(Clone)]
pub struct SupervisorConfig {
    /// The program of a worker.
    pub program: PathBuf,
    /// What comes before the supervisor's own arguments, such as `git-worker`.
    pub args: Vec<OsString>,
    /// What is added to the environment; the rest is the supervisor's own.
    pub env: Vec<(OsString, OsString)>,
    /// The kind of worker.
    pub kind: WorkerKind,
    /// Jobs that run at the same time.
    pub workers: NonZeroUsize,
    /// Processes beyond `workers`, ready for the next jobs. As many as `workers` means that no job ever waits for a start.
    pub reserve: usize,
    /// The folder in which each worker's scratch folder is made.
    pub tmp_dir: PathBuf,
    /// The token that the workers want.
    pub worker_token: SecretString,
    /// How long a worker may take to say where it listens.
    pub start_timeout: Duration,
    /// The pause after a worker's first bad end; doubled with each that follows.
    pub backoff_min: Duration,
    /// The longest such pause.
    pub backoff_max: Duration,
    /// How long a worker may take to end when it is asked to; then it is killed.
    pub stop_grace: Duration,
}

impl SupervisorConfig {
    /// A configuration with the usual waits: 10 s to start, pauses from 100 ms to 10 s, 5 s to stop, and a reserve as large as `workers`.
    pub fn new(
        kind: WorkerKind,
        program: PathBuf,
        workers: NonZeroUsize,
        tmp_dir: PathBuf,
        worker_token: SecretString,
    ) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            kind,
            workers,
            reserve: workers.get(),
            tmp_dir,
            worker_token,
            start_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for SupervisorConfig {
    /// Leaves the environment out, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorConfig")
            .field("kind", &self.kind)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("workers", &self.workers)
            .field("reserve", &self.reserve)
            .field("tmp_dir", &self.tmp_dir)
            .finish_non_exhaustive()
    }
}

/// Keeps worker processes running until its token fires.
#[derive(Debug)]
pub struct Supervisor {
    slots: TaskTracker,
}

impl Supervisor {
    /// Starts the processes, and gives what a gateway follows them by. When `shutdown` fires they are ended: let the gateway drain first.
    pub fn start(config: SupervisorConfig, shutdown: CancellationToken) -> (LocalFleet, Self) {
        let (ready, follow) = watch::channel(Vec::new());
        let fleet = LocalFleet {
            ready: follow,
            max_jobs: config.workers.get(),
        };
        let processes = config.workers.get() + config.reserve;
        let config = Arc::new(config);
        let board = Arc::new(Board {
            ready,
            last: AtomicU64::new(0),
            shutdown,
        });
        let slots = TaskTracker::new();
        for number in 1..=processes {
            let slot = Slot {
                number,
                config: Arc::clone(&config),
                board: Arc::clone(&board),
            };
            task::spawn(&slots, slot.keep_running());
        }
        slots.close();
        (fleet, Self { slots })
    }

    /// Waits until every process has ended and every scratch folder is gone, after the token fired.
    pub async fn stopped(self) {
        self.slots.wait().await;
    }
}

/// The workers of a supervisor that are ready or have a job.
#[derive(Debug, Clone)]
pub struct LocalFleet {
    ready: watch::Receiver<Vec<Member>>,
    max_jobs: usize,
}

impl LocalFleet {
    /// Jobs that run at the same time.
    pub fn max_jobs(&self) -> usize {
        self.max_jobs
    }

    /// The processes that run and have said where they listen.
    pub fn pids(&self) -> Vec<u32> {
        let members = self.ready.borrow();
        members
            .iter()
            .filter_map(|member| member.process.as_ref())
            .map(|process| process.pid)
            .collect()
    }

    pub(crate) fn ready(&mut self) -> Vec<Member> {
        self.ready.borrow_and_update().clone()
    }

    /// Waits until a process became ready or ended; an error once the supervisor is gone.
    pub async fn changed(&mut self) -> Result<(), SupervisorGone> {
        self.ready.changed().await.map_err(|_| SupervisorGone)
    }
}

/// The supervisor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor has ended")]
pub struct SupervisorGone;

/// What slots share: where they say what is ready, and when to end.
#[derive(Debug)]
struct Board {
    ready: watch::Sender<Vec<Member>>,
    last: AtomicU64,
    shutdown: CancellationToken,
}

impl Board {
    fn publish(self: &Arc<Self>, address: SocketAddr, pid: u32) -> Listing {
        let used = UsedMark::default();
        let key = WorkerKey {
            url: address.into(),
            incarnation: self.last.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let member = Member {
            key: key.clone(),
            process: Some(Process {
                pid,
                used: used.clone(),
            }),
        };
        self.ready.send_modify(|members| members.push(member));
        Listing {
            board: Arc::clone(self),
            key,
            used,
        }
    }
}

/// A worker's line on the board; dropped, it is wiped.
struct Listing {
    board: Arc<Board>,
    key: WorkerKey,
    used: UsedMark,
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.board
            .ready
            .send_modify(|members| members.retain(|member| member.key != self.key));
    }
}
