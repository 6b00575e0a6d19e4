//! The sides: a gateway of ours, nginx and HAProxy, each a process in front of the same workers; and a worker asked directly.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::account::{self, Account};
use super::names::Names;
use super::{proxies, stubs};
use crate::bench::measure::own_program;
use crate::bench::process::{self, Group};

/// How long a side may take until it listens.
const READY: Duration = Duration::from_secs(20);
/// Between two looks at whether it does.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of one argument of a process (`MAX_ARG_STRLEN`, execve(2)).
const MAX_ARGUMENT_BYTES: usize = 128 * 1024;

/// Who stands between the client and the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// `mayfly gateway`.
    Mayfly,
    /// nginx with `proxy_next_upstream` on 429.
    Nginx,
    /// HAProxy with a queue of its own and redispatch.
    Haproxy,
    /// Nobody.
    Direct,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mayfly => "mayfly",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Direct => "no gateway",
        })
    }
}

impl Side {
    /// The Debian package that has its program; `None` where it is ours.
    fn package(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nginx => Some(("nginx", "nginx-light")),
            Self::Haproxy => Some(("haproxy", "haproxy")),
            Self::Mayfly | Self::Direct => None,
        }
    }

    /// Fails with what to install where the program is missing.
    pub(super) fn check(self) -> anyhow::Result<()> {
        let Some((program, package)) = self.package() else {
            return Ok(());
        };
        match program_path(program) {
            Some(_) => Ok(()),
            None => bail!(
                "`{program}` is missing: `apt-get install --no-install-recommends {package}`, or leave it out with `--against`"
            ),
        }
    }
}

/// Where Debian puts programs, whatever the caller's PATH says.
fn program_path(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths.find(|path| path.is_file())
}

/// What a side is given.
pub(super) struct Setup<'a> {
    /// A folder of its own.
    pub(super) folder: &'a Path,
    pub(super) workers: &'a [SocketAddr],
    /// Where our gateway finds the workers by name.
    pub(super) names: Option<&'a Names>,
    /// Where our gateway notes its jobs.
    pub(super) storage: Option<&'a str>,
    /// Files that it may open.
    pub(super) open_files: u64,
    /// Whether each job's tries are to be told afterwards.
    pub(super) tells_tries: bool,
}

impl<'a> Setup<'a> {
    /// These workers, and nothing else.
    pub(super) fn of(workers: &'a [SocketAddr]) -> Self {
        Self {
            folder: Path::new(""),
            workers,
            names: None,
            storage: None,
            open_files: 0,
            tells_tries: false,
        }
    }
}

/// A side that listens; it is killed when this is dropped.
pub(super) struct Running {
    pub(super) side: Side,
    pub(super) address: SocketAddr,
    pub(super) log: PathBuf,
    child: Child,
    group: Option<Group>,
}

impl Running {
    /// Starts a side, and returns when it listens.
    pub(super) async fn start(side: Side, setup: &Setup<'_>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(setup.folder)?;
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, stubs::free_port()?).into();
        let mut command = match side {
            Side::Mayfly => ours(setup, address)?,
            Side::Nginx | Side::Haproxy => theirs(side, setup, address)?,
            Side::Direct => bail!("no process stands between a client and a worker that it asks directly"),
        };
        let log = setup.folder.join("log");
        let output = std::fs::File::create(&log)?;
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let (child, group) = process::start(&mut command)?;
        let mut running = Self {
            side,
            address,
            log,
            child,
            group: Some(group),
        };
        let listens = timeout(READY, running.listens()).await;
        listens
            .with_context(|| format!("{side} did not listen in time"))?
            .with_context(|| format!("{side}: {}", running.last_words()))?;
        Ok(running)
    }

    async fn listens(&mut self) -> anyhow::Result<()> {
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(500);
        text.get(start..).unwrap_or_default().trim().to_owned()
    }

    /// What all processes of the side have used.
    pub(super) fn account(&self) -> Account {
        account::of_tree(self.child.id())
    }

    /// Ends it, with what it still has to write.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let signal = match self.side {
            // It writes out its log, and ends.
            Side::Nginx => Signal::SIGQUIT,
            _ => Signal::SIGTERM,
        };
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        mayfly_telemetry::task::blocking(move || {
            self.child.wait()?;
            if let Some(group) = self.group.take() {
                group.ended();
            }
            Ok(())
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            drop(group);
            let _its_status = self.child.wait();
        }
    }
}

fn ours(setup: &Setup<'_>, address: SocketAddr) -> anyhow::Result<Command> {
    let program = own_program()?;
    let mut command = match setup.names {
        None => new_command(&program),
        Some(names) => names.seen_by(&program),
    };
    command
        .args(["gateway", "--log", "warn", "--port", &address.port().to_string()])
        .arg("--tmp-dir")
        .arg(setup.folder);
    match setup.names {
        None => command.args(["--git-workers", &worker_list(setup.workers)?]),
        Some(names) => command.args(["--git-workers", &names.source()]),
    };
    if let Some(storage) = setup.storage {
        command.args(["--storage-url", storage]);
    }
    Ok(command)
}

fn worker_list(workers: &[SocketAddr]) -> anyhow::Result<String> {
    let urls: Vec<String> = workers
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    let list = urls.join(",");
    ensure!(
        list.len() < MAX_ARGUMENT_BYTES,
        "{} addresses are more than one argument can hold, and names of one's own want a mount namespace, which is refused here",
        workers.len()
    );
    Ok(list)
}

fn theirs(side: Side, setup: &Setup<'_>, address: SocketAddr) -> anyhow::Result<Command> {
    let (program, package) = side.package().context("ours is no package")?;
    let program = program_path(program).with_context(|| format!("{package} is not installed"))?;
    let file = setup.folder.join("configuration");
    let mut command = new_command(&program);
    match side {
        Side::Nginx => {
            std::fs::write(&file, proxies::nginx(setup, address))?;
            command.arg("-p").arg(setup.folder).arg("-c").arg(&file);
        }
        _ => {
            std::fs::write(&file, proxies::haproxy(setup, address))?;
            command.arg("-db").arg("-f").arg(&file);
        }
    }
    Ok(command)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
fn new_command(program: &Path) -> Command {
    Command::new(program)
}
