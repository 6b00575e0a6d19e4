//! Shares one Ceph cluster between all test processes that run at the same time.
//!
//! Each holds a lock on a file, and `ceph_cluster.py` runs the cluster for as long as anyone does: a process that is killed holds none.
//! `cargo xtask test` holds one too while it runs the tests, so that the cluster is started once.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{BUCKET, S3Place};
use crate::child_server::tools_folder;

const PROGRAM: &str = include_str!("ceph_cluster.py");
/// A cluster starts in 15 s on an idle machine.
const START_PATIENCE: Duration = Duration::from_secs(240);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Relative to the folder of the tools; `xtask` knows it as well.
const USERS: &str = "ceph.users";

/// Keeps the cluster running.
pub(super) struct Lease {
    _users: File,
}

/// Finds the cluster that runs, or starts one.
pub(super) fn lease() -> (Lease, S3Place) {
    let folder = tools_folder();
    let users = open(&folder.join(USERS));
    // Waits for a cluster that is just ending.
    users.lock_shared().expect("a file can be locked");
    let starting = open(&folder.join("ceph.starting"));
    starting.lock().expect("a file can be locked");
    let ready = folder.join("ceph.ready");
    let place = running(&ready).unwrap_or_else(|| start(&folder, &ready));
    (Lease { _users: users }, place)
}

fn open(path: &Path) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}; run `.ci/tools.sh` once", path.display()))
}

/// What the cluster said about itself, if it still answers.
fn running(ready: &Path) -> Option<S3Place> {
    let text = std::fs::read_to_string(ready).ok()?;
    let mut lines = text.lines().map(ToOwned::to_owned);
    let endpoint = lines.next()?;
    let addr: SocketAddr = endpoint.strip_prefix("http://")?.parse().ok()?;
    TcpStream::connect(addr).ok()?;
    Some(S3Place {
        endpoint,
        access_key_id: lines.next()?,
        secret_access_key: lines.next()?,
        bucket: BUCKET.to_owned(),
    })
}

#[expect(
    clippy::zombie_processes,
    reason = "others may use the cluster for longer than this process lives"
)]
fn start(folder: &Path, ready: &Path) -> S3Place {
    // One that a killed cluster left behind.
    let _none = std::fs::remove_file(ready);
    let log = folder.join("ceph.log");
    let mut cluster = spawn(folder, ready, &log);
    let deadline = Instant::now() + START_PATIENCE;
    while Instant::now() < deadline {
        if let Some(place) = running(ready) {
            return place;
        }
        if let Some(status) = cluster.try_wait().expect("a child can be asked") {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("Ceph ended at its start ({status}); `.ci/tools.sh` installs it. It said:\n{said}");
        }
        thread::sleep(POLL_INTERVAL);
    }
    panic!(
        "Ceph is not ready after {START_PATIENCE:?}; see {}",
        log.display()
    );
}

#[expect(clippy::disallowed_methods, reason = "tests start the servers that they need")]
fn spawn(folder: &Path, ready: &Path, log: &PathBuf) -> Child {
    let log = File::create(log).expect("a file can be made in the folder of the tools");
    let mut command = Command::new(folder.join("py/bin/python"));
    command
        .args(["-c", PROGRAM])
        .arg(folder.join(USERS))
        .arg(ready)
        .arg(BUCKET)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().expect("Python of the tools can be started")
}
