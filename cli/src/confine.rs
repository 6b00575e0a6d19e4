//! What a role gives up when it starts, since nobody else takes it away: `docker stack deploy` leaves out `security_opt` without a word. And what a gateway
//! takes: all open files that it may have.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use mayfly_sandbox::{Bounds, Demand, Report};
use mayfly_worker::Place;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::args::{CodeWorkerArgs, GitWorkerArgs, WorkerArgs};

/// Names, certificates, time zones and the libraries that look names up; and how much of the machine a container may use. No secret of another
/// process is here, nor is anything run.
const SYSTEM: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/dev/null",
    "/dev/urandom",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/sys/fs/cgroup",
];
/// Where the addresses of name servers are. It may be a link to a file that is replaced, so what counts is its folder.
const NAME_SERVERS: &str = "/etc/resolv.conf";
/// Variables that name a file which is read once, or several with colons between them.
const FILES: &[&str] = &[
    "WORKER_TOKEN_FILE",
    "ANTHROPIC_API_KEY_FILE",
    "OPENAI_API_KEY_FILE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Variables of the AWS SDK that name a file which is read again, and may have been replaced by then.
const REPLACED_FILES: &[&str] = &[
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
/// Where the AWS SDK looks without them, below the home.
const AWS_FOLDER: &str = ".aws";
const OWNER_ONLY: u32 = 0o700;

/// Whether a worker starts where the system cannot keep it from the files and processes of others.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SandboxArg {
    /// It does not.
    Required,
    /// It does, and says so in its log.
    BestEffort,
}

impl SandboxArg {
    /// The setting for workers that this process starts.
    pub(crate) fn to_environment(self) -> (OsString, OsString) {
        let value = match self {
            Self::Required => "required",
            Self::BestEffort => "best-effort",
        };
        ("SANDBOX".into(), value.into())
    }
}

/// From now on nothing that this process starts may gain privileges (`PR_SET_NO_NEW_PRIVS`), and no other process of the same user may
/// read its memory, its environment or its open files, nor does a crash write them to the disk (`PR_SET_DUMPABLE`, prctl(2)).
pub(crate) fn confine() -> anyhow::Result<()> {
    prctl::set_no_new_privs().context("the process cannot give up gaining privileges")?;
    prctl::set_dumpable(false).context("the process cannot shut its memory to others")
}

/// A worker that is kept to a folder of its own.
#[derive(Debug)]
pub(crate) struct Confined {
    /// Its folder.
    pub(crate) place: Place,
    /// What it has given up.
    pub(crate) sandbox: Report,
}

/// Keeps a git worker to its folder and its storage. It comes before the threads of the process.
pub(crate) fn git_worker(args: &GitWorkerArgs) -> anyhow::Result<Confined> {
    let mut bounds = Bounds::default();
    match args.storage_url.folder() {
        Some(folder) => bounds.own.push(made(folder)?),
        None => bounds.readable.extend(files_for_s3(args)),
    }
    bounds.readable.extend(args.git.extra_ca_file().cloned());
    worker(&args.worker, args.port, bounds)
}

/// Keeps a code worker to its folder.
pub(crate) fn code_worker(args: &CodeWorkerArgs) -> anyhow::Result<Confined> {
    worker(&args.worker, args.port, Bounds::default())
}

fn worker(args: &WorkerArgs, port: u16, mut bounds: Bounds) -> anyhow::Result<Confined> {
    let place = Place::make(&args.tmp_dir)?;
    bounds.own.push(place.path().to_owned());
    // What remains of its folder when it ends.
    bounds.emptied.push(args.tmp_dir.clone());
    bounds.port = port;
    bounds.readable.extend(SYSTEM.iter().map(PathBuf::from));
    bounds.readable.extend(
        std::fs::canonicalize(NAME_SERVERS)
            .ok()
            .and_then(|file| folder_of(&file, args)),
    );
    bounds
        .readable
        .extend(FILES.iter().flat_map(|name| named_by(name)));
    let tls = args.tls.files().map(|files| [files.certificate, files.key]);
    bounds.readable.extend(
        tls.into_iter()
            .flatten()
            .filter_map(|file| folder_of(&file, args)),
    );
    let demand = match args.sandbox {
        SandboxArg::Required => Demand::Required,
        SandboxArg::BestEffort => Demand::BestEffort,
    };
    let confined = mayfly_sandbox::confine(&bounds, demand);
    let (sandbox, missing) =
        confined.context("the worker does not start with SANDBOX=required, which this system cannot give")?;
    for error in &missing {
        let error = error as &(dyn std::error::Error + 'static);
        tracing::warn!(
            error,
            "the worker is not kept from everything that it does not need; SANDBOX=required refuses to start so"
        );
    }
    Ok(Confined { place, sandbox })
}

/// What the AWS SDK reads.
fn files_for_s3(args: &GitWorkerArgs) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(AWS_FOLDER));
    let replaced = REPLACED_FILES.iter().flat_map(|name| named_by(name));
    let folders = replaced.filter_map(|file| folder_of(&file, &args.worker));
    folders
        .chain(home)
        .chain(args.storage.ca_bundle().cloned())
        .collect()
}

/// The paths in a variable.
fn named_by(name: &str) -> Vec<PathBuf> {
    let value = std::env::var_os(name).unwrap_or_default();
    std::env::split_paths(&value)
        .filter(|path| !path.as_os_str().is_empty())
        .collect()
}

/// The folder of a file that may be replaced; the file alone where the folders of other processes are in that folder, too.
fn folder_of(file: &Path, args: &WorkerArgs) -> Option<PathBuf> {
    let folder = file.parent()?;
    let is_shared = match (
        std::fs::canonicalize(folder),
        std::fs::canonicalize(&args.tmp_dir),
    ) {
        (Ok(folder), Ok(tmp_dir)) => tmp_dir.starts_with(folder),
        _ => true,
    };
    Some(if is_shared { file } else { folder }.to_owned())
}

fn made(folder: &Path) -> anyhow::Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(folder)
        .with_context(|| format!("the folder {} of STORAGE_URL cannot be made", folder.display()))?;
    Ok(folder.to_owned())
}

/// Raises the soft limit of open files to the hard one: each stream takes two sockets, and the soft limit is often 1024 for the sake of programs that use
/// select(2).
pub(crate) fn allow_open_files() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files is not told")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of open files cannot be raised")
}
