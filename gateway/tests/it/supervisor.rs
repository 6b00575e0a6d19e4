//! Real processes under the supervisor: kept ready, replaced, and never left behind.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_gateway::{GatewayConfig, LocalFleet, Supervisor, SupervisorConfig, WorkerKind, WorkerSource};
use mayfly_protocol::SecretString;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, job};
use crate::gateway::{TestGateway, config};
use crate::stub_worker::{StubWorker, completing};
use crate::until::until;

/// Notes its start, says where it listens, and ends with its standard input.
const GOOD: &str =
    r#"echo "$$ $* $TMP_DIR $WORKER_TOKEN" >> "$NOTES"; echo "listening on $ADDRESS"; read line; exit 0"#;

struct Fixture {
    folder: TempDir,
    config: SupervisorConfig,
    shutdown: CancellationToken,
}

impl Fixture {
    fn new(script: &str, workers: usize, reserve: usize, address: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let mut config = SupervisorConfig::new(
            WorkerKind::Git,
            PathBuf::from("/bin/sh"),
            NonZeroUsize::new(workers).unwrap(),
            folder.path().join("tmp"),
            SecretString::from("fleet-token"),
        );
        config.args = ["-c", script, "worker"].map(Into::into).to_vec();
        config.env = vec![
            ("NOTES".into(), folder.path().join("notes").into()),
            ("FOLDER".into(), folder.path().into()),
            ("ADDRESS".into(), address.into()),
        ];
        config.reserve = reserve;
        config.backoff_min = Duration::from_millis(20);
        config.backoff_max = Duration::from_millis(200);
        Self {
            folder,
            config,
            shutdown: CancellationToken::new(),
        }
    }

    fn start(&self) -> (LocalFleet, Supervisor) {
        Supervisor::start(self.config.clone(), self.shutdown.clone())
    }

    /// The lines that the workers noted: process id, arguments, folder, token.
    fn notes(&self) -> Vec<String> {
        let notes = std::fs::read_to_string(self.folder.path().join("notes")).unwrap_or_default();
        notes.lines().map(str::to_owned).collect()
    }

    fn scratch_folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    async fn stop(&self, supervisor: Supervisor) {
        self.shutdown.cancel();
        timeout(PATIENCE, supervisor.stopped()).await.unwrap();
        assert_eq!(self.scratch_folders(), Vec::<PathBuf>::new());
        for note in self.notes() {
            let pid = note.split(' ').next().unwrap();
            assert!(!runs(pid), "process {pid} was left behind");
        }
    }
}

fn runs(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[tokio::test]
async fn workers_and_reserve_are_started_each_with_its_own_folder() {
    let fixture = Fixture::new(GOOD, 2, 1, "127.0.0.1:9");
    let (fleet, supervisor) = fixture.start();
    until(|| fleet.pids().len() == 3).await;
    let notes = fixture.notes();
    let mut folders: Vec<&str> = notes.iter().map(|note| note.split(' ').nth(5).unwrap()).collect();
    folders.sort_unstable();
    folders.dedup();
    assert_eq!(folders.len(), 3, "{notes:?}");
    assert!(
        folders
            .iter()
            .all(|folder| folder.contains("/tmp/mayfly-tmp-worker-")),
        "{folders:?}"
    );
    for note in &notes {
        assert!(
            note.contains(" --port 0 --announce --exit-with-parent /"),
            "{note}"
        );
        assert!(note.ends_with(" fleet-token"), "{note}");
        let pid = note.split(' ').next().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
        assert_eq!(group, pid, "a process group of its own");
    }
    assert_eq!(fleet.max_jobs(), 2);
    fixture.stop(supervisor).await;
}

#[tokio::test]
async fn a_worker_that_dies_is_replaced_and_its_folder_goes() {
    let script = r#"echo "$$ $* $TMP_DIR $WORKER_TOKEN" >> "$NOTES"; : > "$TMP_DIR/file"; echo "listening on $ADDRESS"; read line"#;
    let fixture = Fixture::new(script, 1, 0, "127.0.0.1:9");
    let (fleet, supervisor) = fixture.start();
    until(|| fleet.pids().len() == 1).await;
    let (first, folder) = (fleet.pids()[0], fixture.scratch_folders());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(first as i32),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    until(|| fleet.pids().iter().any(|pid| *pid != first)).await;
    assert!(!folder[0].exists());
    assert_eq!(fixture.scratch_folders().len(), 1);
    fixture.stop(supervisor).await;
}

#[tokio::test]
async fn workers_that_never_become_ready_are_tried_again_more_and_more_slowly() {
    for script in [
        r#"echo "$$" >> "$NOTES"; exit 1"#,
        r#"echo "$$" >> "$NOTES"; exit 0"#,
        r#"echo "$$" >> "$NOTES"; echo hello; read line"#,
        r#"echo "$$" >> "$NOTES"; read line"#,
        r#"echo "$$" >> "$NOTES"; echo "listening on $ADDRESS"; exit 0"#,
    ] {
        let mut fixture = Fixture::new(script, 1, 0, "127.0.0.1:9");
        fixture.config.start_timeout = Duration::from_millis(100);
        let started = std::time::Instant::now();
        let (_fleet, supervisor) = fixture.start();
        until(|| fixture.notes().len() >= 4).await;
        // Three pauses of at least half of 20, 40 and 80 ms lie between four starts.
        assert!(started.elapsed() >= Duration::from_millis(70), "{script}");
        fixture.stop(supervisor).await;
    }
}

#[tokio::test]
async fn a_program_or_a_folder_that_is_not_there_does_no_harm() {
    let mut fixture = Fixture::new(GOOD, 1, 0, "127.0.0.1:9");
    fixture.config.program = PathBuf::from("/no/such/program");
    let (fleet, supervisor) = fixture.start();
    fixture.stop(supervisor).await;
    assert!(fleet.pids().is_empty());
    fixture.config.tmp_dir = PathBuf::from("/no/such/folder");
    fixture.shutdown = CancellationToken::new();
    let (_, supervisor) = fixture.start();
    fixture.stop(supervisor).await;
}

#[tokio::test]
async fn a_worker_that_does_not_want_to_end_is_killed_with_what_it_started() {
    let script = r#"trap '' TERM; sleep 600 & echo "$!" >> "$NOTES"; echo "$$" >> "$NOTES"; echo "listening on $ADDRESS"; while :; do sleep 1; done"#;
    let mut fixture = Fixture::new(script, 1, 0, "127.0.0.1:9");
    fixture.config.stop_grace = Duration::from_millis(100);
    let (fleet, supervisor) = fixture.start();
    until(|| fleet.pids().len() == 1).await;
    fixture.shutdown.cancel();
    timeout(PATIENCE, supervisor.stopped()).await.unwrap();
    // What the worker started has no parent to wait for it, so it goes a moment later.
    until(|| fixture.notes().iter().all(|pid| !runs(pid) || is_zombie(pid))).await;
}

fn is_zombie(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

#[tokio::test]
async fn a_fleet_whose_supervisor_has_ended_says_so() {
    let fixture = Fixture::new(GOOD, 1, 0, "127.0.0.1:9");
    let (mut fleet, supervisor) = fixture.start();
    until(|| fleet.pids().len() == 1).await;
    fixture.stop(supervisor).await;
    while fleet.changed().await.is_ok() {}
    assert!(fleet.pids().is_empty());
}

/// The script's worker is a stub of this test, since a shell cannot listen: it exits when the test says so.
const ONE_JOB: &str = r#"echo "$$" >> "$NOTES"; echo "listening on $ADDRESS"
while [ ! -e "$FOLDER/exit-$$" ]; do sleep 0.02; done; exit 0"#;

#[tokio::test]
async fn each_job_has_a_process_of_its_own_and_the_next_one_starts_at_once() {
    let stub = StubWorker::start(vec![completing()]).await;
    let mut fixture = Fixture::new(ONE_JOB, 1, 1, &stub.address.to_string());
    // So long that the test would fail if a good exit were taken for a bad one.
    fixture.config.backoff_min = PATIENCE * 2;
    fixture.config.backoff_max = PATIENCE * 2;
    let (fleet, supervisor) = fixture.start();
    let mut gateway = TestGateway::start(GatewayConfig {
        git_workers: WorkerSource::Local(fleet.clone()),
        ..config(&[])
    })
    .await;
    let mut served = Vec::new();
    for session in ["a", "b", "c", "d"] {
        until(|| fleet.pids().len() == 2).await;
        gateway.post(job(session)).await.until("completed").await;
        let workers = gateway
            .wait_for("/workers", |workers| ending(workers).is_some())
            .await;
        let pid = ending(&workers).unwrap();
        std::fs::write(fixture.folder.path().join(format!("exit-{pid}")), "").unwrap();
        until(|| !fleet.pids().contains(&pid)).await;
        served.push(pid);
    }
    served.sort_unstable();
    served.dedup();
    assert_eq!(served.len(), 4, "a process for each job");
    gateway.stop().await;
    fixture.stop(supervisor).await;
}

/// The process that had its job.
fn ending(workers: &serde_json::Value) -> Option<u32> {
    let mut workers = workers["workers"].as_array()?.iter();
    let spent = workers.find(|worker| worker["state"] == "ending")?;
    spent["pid"].as_u64()?.try_into().ok()
}
