//! A server program on a free port of loopback, which ends with the test process: its wrapper watches its standard input.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::wait::PATIENCE;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often another port is tried because someone took the first between our look and the server's.
const PORT_ATTEMPTS: u32 = 5;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct ChildServer {
    name: &'static str,
    child: Child,
    addr: SocketAddr,
}

impl ChildServer {
    /// Starts the program that `command` makes for an address, and waits until it listens there.
    ///
    /// The command's standard input must be a pipe, at whose end the program ends.
    pub(crate) fn start(name: &'static str, command: impl Fn(SocketAddr) -> Command) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let addr = free_port();
            let mut server = Self::spawn(name, command(addr), addr);
            if server.is_up() {
                return server;
            }
        }
        panic!("{name} did not start on {PORT_ATTEMPTS} ports");
    }

    fn spawn(name: &'static str, mut command: Command, addr: SocketAddr) -> Self {
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match started {
            Ok(child) => Self { name, child, addr },
            Err(error) if error.kind() == ErrorKind::NotFound => panic!(
                "the tests need the server {name} at {}: run `.ci/tools.sh` once, which installs it",
                command.get_program().display()
            ),
            Err(error) => panic!("cannot start {name}: {error}"),
        }
    }

    /// Waits until it listens; false if it ended instead, because its port was taken.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().expect("a child can be asked").is_some() {
                return false;
            }
            if TcpStream::connect(self.addr).is_ok() {
                return self.child.try_wait().expect("a child can be asked").is_none();
            }
            thread::sleep(POLL_INTERVAL);
        }
        panic!("{} does not listen after {PATIENCE:?}", self.name);
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Makes a bucket, on an S3 server that does not check signatures.
    pub(crate) fn create_bucket(&self, bucket: &str) {
        let answer = self.exchange(&format!("PUT /{bucket} HTTP/1.1\r\nContent-Length: 0\r\n"), "");
        assert!(answer.starts_with("HTTP/1.1 200"), "no bucket: {answer}");
    }

    /// One request on a connection of its own.
    pub(crate) fn exchange(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let request = format!("{head}Host: {}\r\nConnection: close\r\n\r\n{body}", self.addr);
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // The end of its standard input ends it.
        drop(self.child.stdin.take());
        let _status = self.child.wait();
    }
}

/// The folder of `.ci/tools.sh`: `MAYFLY_TOOLS`, relative to the workspace as the script has it, or `target/tools`.
pub(crate) fn tools_folder() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    workspace.join(std::env::var_os("MAYFLY_TOOLS").unwrap_or_else(|| "target/tools".into()))
}

pub(crate) fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
    listener.local_addr().expect("a bound listener has an address")
}
