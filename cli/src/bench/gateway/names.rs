//! Names of our own for the workers, which a gateway looks up as it would in Docker Swarm's DNS: the system's resolver reads them from a file that
//! stands in the place of `/etc/hosts` in a mount namespace of that gateway.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Ways to a mount namespace of one's own: as root, and as anybody where user namespaces are allowed.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];

const NAME: &str = "workers.bench.invalid";

/// A list of addresses that can change while it is read.
pub(super) struct Names {
    file: PathBuf,
    port: u16,
    way: &'static [&'static str],
}

impl Names {
    /// Writes the list; `None` where this process may make no mount namespace.
    pub(super) fn make(folder: &Path, workers: &[SocketAddr]) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("hosts");
        let mut text = "127.0.0.1 localhost\n".to_owned();
        workers.iter().for_each(|worker| text.push_str(&line(*worker)));
        File::create(&file)?.write_all(text.as_bytes())?;
        let port = workers.first().map_or(0, SocketAddr::port);
        let mut ways = WAYS.into_iter().map(|way| Self {
            file: file.clone(),
            port,
            way,
        });
        Ok(ways.find(Self::is_allowed))
    }

    fn is_allowed(&self) -> bool {
        let tried = self
            .seen_by(Path::new("/bin/true"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    }

    /// Adds an address, in one write, so that no reader sees half of it.
    pub(super) fn add(&self, worker: SocketAddr) -> std::io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.file)?;
        file.write_all(line(worker).as_bytes())
    }

    /// How the gateway is told of the workers.
    pub(super) fn source(&self) -> String {
        format!("dns://{NAME}:{}", self.port)
    }

    /// A command that runs the program where the names are known.
    #[expect(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
    pub(super) fn seen_by(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(self.way)
            .args(["sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#])
            .arg(&self.file)
            .arg(program);
        command
    }
}

fn line(worker: SocketAddr) -> String {
    format!("{} {NAME}\n", worker.ip())
}
