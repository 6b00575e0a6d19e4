//! One place for a worker process: as soon as one ends, the next is started, after a pause where it ended badly.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use mayfly_telemetry::task;
use mayfly_tmp_folder::{TmpFolder, remove_tree};
use tokio::time::sleep;

use super::child::{AnnounceError, WorkerProcess};
use super::{Board, SupervisorConfig};
use crate::chance::jitter;
use crate::retry::{Aside, Pauses};

/// How a worker ended badly.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error("its scratch folder cannot be made in `{tmp_dir}`")]
    Scratch {
        tmp_dir: String,
        #[source]
        source: io::Error,
    },
    #[error("`{program}` cannot be started")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("it was not ready, and ended with {status}")]
    NotReady {
        status: String,
        #[source]
        source: AnnounceError,
    },
    #[error("it ended with {0}")]
    Exit(String),
    #[error("it ended before it was given a job")]
    Unused,
}

/// How a worker ended well.
enum Ended {
    HadItsJob,
    Stopped,
}

pub(super) struct Slot {
    pub(super) number: usize,
    pub(super) config: Arc<SupervisorConfig>,
    pub(super) board: Arc<Board>,
}

impl Slot {
    /// Runs one worker after another until the shutdown.
    pub(super) async fn keep_running(self) {
        let mut failures = 0_u32;
        while !self.board.shutdown.is_cancelled() {
            match self.run_one().await {
                Ok(Ended::HadItsJob) => failures = 0,
                Ok(Ended::Stopped) => return,
                Err(error) => {
                    let pause = self.pauses().after(Aside::Faulty, failures, jitter());
                    failures = failures.saturating_add(1);
                    self.log(&error, failures, pause);
                    // Whether the pause is over or the shutdown came: the loop looks.
                    let _paused = self.board.shutdown.run_until_cancelled(sleep(pause)).await;
                }
            }
        }
    }

    fn log(&self, error: &WorkerError, failures: u32, pause: Duration) {
        let (kind, slot) = (self.config.kind, self.number);
        let error = error as &(dyn std::error::Error + 'static);
        tracing::warn!(worker.kind = %kind, slot, failures, error, "a worker ended badly; the next one starts in {pause:?}");
    }

    fn pauses(&self) -> Pauses {
        Pauses {
            first: self.config.backoff_min,
            longest: self.config.backoff_max,
            longest_faulty: self.config.backoff_max,
        }
    }

    async fn run_one(&self) -> Result<Ended, WorkerError> {
        let scratch = self.make_scratch().await?;
        let started = WorkerProcess::start(&self.config, scratch.path());
        let ended = match started {
            Ok(process) => self.run(process).await,
            Err(source) => Err(WorkerError::Start {
                program: self.config.program.display().to_string(),
                source,
            }),
        };
        remove(scratch).await;
        ended
    }

    /// Sees a process from its start to its end; when this returns, it is gone.
    async fn run(&self, mut process: WorkerProcess) -> Result<Ended, WorkerError> {
        let announced = tokio::select! {
            biased;
            () = self.board.shutdown.cancelled() => None,
            announced = process.announced(self.config.start_timeout) => Some(announced),
        };
        let used = match announced {
            None => None,
            Some(Ok(address)) => Some(self.serve(&mut process, address).await),
            Some(Err(source)) => {
                let status = shown(&process.end(self.config.stop_grace).await);
                return Err(WorkerError::NotReady { status, source });
            }
        };
        let status = process.end(self.config.stop_grace).await;
        if self.board.shutdown.is_cancelled() {
            return Ok(Ended::Stopped);
        }
        match (status, used) {
            (Ok(status), Some(true)) if status.success() => Ok(Ended::HadItsJob),
            (Ok(status), _) if status.success() => Err(WorkerError::Unused),
            (status, _) => Err(WorkerError::Exit(shown(&status))),
        }
    }

    /// Shows the worker to the gateway until it exits or the shutdown comes; whether it was given a job.
    async fn serve(&self, process: &mut WorkerProcess, address: std::net::SocketAddr) -> bool {
        let pid = process.pid();
        let listing = self.board.publish(address, pid);
        tracing::debug!(worker.kind = %self.config.kind, slot = self.number, pid, %address, "a worker is ready");
        tokio::select! {
            biased;
            () = self.board.shutdown.cancelled() => {}
            _exited = process.wait() => {}
        }
        listing.used.is_set()
    }

    async fn make_scratch(&self) -> Result<TmpFolder, WorkerError> {
        let tmp_dir = self.config.tmp_dir.clone();
        let purpose = format!("worker-{}", self.number);
        let made = task::blocking(move || {
            // What an earlier fleet left, its last workers may have held until now.
            let _swept = mayfly_tmp_folder::sweep(&tmp_dir);
            TmpFolder::make(&tmp_dir, &purpose)
        });
        made.await.map_err(|source| WorkerError::Scratch {
            tmp_dir: self.config.tmp_dir.display().to_string(),
            source,
        })
    }
}

async fn remove(mut scratch: TmpFolder) {
    let path = scratch.path().to_owned();
    let removed = task::blocking(move || {
        let removed = remove_tree(scratch.path());
        scratch.was_removed();
        removed
    });
    if let Err(error) = removed.await {
        tracing::warn!(%error, "the scratch folder `{}` could not be removed", path.display());
    }
}

fn shown(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("an unknown status ({error})"),
    }
}
