//! A real Redis, which can be killed, held up, emptied, and started again where it was.
//!
//! It ends with the test process, however that ends: its wrapper watches its standard input.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use uuid::Uuid;

use crate::child_server::free_port;
use crate::https::TestCa;
use crate::wait::PATIENCE;

const WRAPPER: &str =
    r#"redis-server "$1" & echo $! > "$2"; cat > /dev/null; kill -CONT $!; kill -KILL $!; wait $!"#;
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Of an answer to one of the test's own questions.
const ANSWER_BYTES: usize = 1024;

/// A Redis with a password of its own; dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    /// Where it listens without TLS: the tests themselves ask it there.
    addr: SocketAddr,
    tls_port: Option<u16>,
    password: String,
    wrapper: Option<Child>,
}

impl Redis {
    /// Starts one, and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same, with TLS and a certificate of this authority.
    pub fn start_tls(ca: &TestCa) -> Self {
        Self::start_with(Some(ca))
    }

    fn start_with(ca: Option<&TestCa>) -> Self {
        let mut redis = Self {
            folder: tempfile::tempdir().expect("a folder can be made"),
            addr: free_port(),
            tls_port: ca.map(|_| free_port().port()),
            password: Uuid::new_v4().to_string(),
            wrapper: None,
        };
        let mut settings = format!(
            "bind 127.0.0.1\nport {}\nrequirepass {}\nsave \"\"\nrdbcompression no\nappendonly no\nlogfile \"\"\ndir {}\n",
            redis.addr.port(),
            redis.password,
            redis.folder.path().display()
        );
        if let Some((ca, port)) = ca.zip(redis.tls_port) {
            let (certificate, key) = ca.write_server_pem(redis.folder.path());
            settings += &format!(
                "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-auth-clients no\n",
                certificate.display(),
                key.display()
            );
        }
        std::fs::write(redis.folder.path().join("redis.conf"), settings).expect("a file can be written");
        redis.start_again();
        redis
    }

    /// Its address, with the password.
    pub fn url(&self) -> String {
        self.url_with(&self.password)
    }

    /// Its address with another password.
    pub fn url_with(&self, password: &str) -> String {
        match self.tls_port {
            Some(port) => format!("rediss://:{password}@127.0.0.1:{port}/0"),
            None => format!("redis://:{password}@{}/0", self.addr),
        }
    }

    /// Adds a user with these rules, and gives the address with its name and password.
    pub fn url_of_user(&self, rules: &str) -> String {
        let (name, password) = ("limited", Uuid::new_v4());
        let answer = self.ask(&format!("ACL SETUSER {name} on >{password} {rules}"));
        assert!(
            answer.is_some_and(|answer| answer.ends_with("+OK\r\n")),
            "the user is made"
        );
        format!("redis://{name}:{password}@{}/0", self.addr)
    }

    /// The password, which is nowhere else.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Kills it, with all that it holds.
    pub fn kill(&mut self) {
        if let Some(mut wrapper) = self.wrapper.take() {
            // The end of its standard input ends it.
            drop(wrapper.stdin.take());
            let _status = wrapper.wait();
        }
    }

    /// Starts it where it was, with nothing in it, and waits until it answers.
    #[expect(clippy::disallowed_methods, reason = "tests start the servers that they need")]
    pub fn start_again(&mut self) {
        let started = Command::new("sh")
            .args(["-c", WRAPPER, "redis"])
            .arg(self.folder.path().join("redis.conf"))
            .arg(self.folder.path().join("pid"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.wrapper = Some(started.expect("a shell can be started"));
        let deadline = Instant::now() + PATIENCE;
        while self.ask("PING").is_none_or(|answer| !answer.contains("+PONG")) {
            assert!(
                Instant::now() < deadline,
                "no redis-server answers at {}; `.ci/tools.sh` installs it",
                self.addr
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Holds it up: connections stay, and nothing is answered.
    pub fn hold(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Removes all that it holds.
    pub fn empty(&self) {
        let answer = self.ask("FLUSHALL");
        assert!(
            answer.is_some_and(|answer| answer.ends_with("+OK\r\n")),
            "it is emptied"
        );
    }

    /// All that it holds, as one text in which a test looks for what must not be there.
    pub fn content(&self) -> Vec<u8> {
        let answer = self.ask("SAVE");
        assert!(
            answer.is_some_and(|answer| answer.ends_with("+OK\r\n")),
            "it is written down"
        );
        std::fs::read(self.folder.path().join("dump.rdb")).expect("what was written can be read")
    }

    /// One command on a connection of its own; `None` where that fails.
    fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "AUTH {}\r\n{command}\r\nQUIT\r\n", self.password).ok()?;
        let mut answer = String::new();
        stream
            .take(ANSWER_BYTES as u64)
            .read_to_string(&mut answer)
            .ok()?;
        // Without what is said of QUIT.
        Some(answer.strip_suffix("+OK\r\n")?.to_owned())
    }

    fn signal(&self, signal: Signal) {
        let pid = read_pid(&self.folder.path().join("pid"));
        kill(pid, signal).expect("it can be signalled");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_pid(file: &Path) -> Pid {
    let text = std::fs::read_to_string(file).expect("the wrapper has written it");
    Pid::from_raw(text.trim().parse().expect("a number"))
}

#[cfg(test)]
mod tests {
    use super::Redis;

    #[test]
    fn a_redis_is_held_up_killed_and_started_again() {
        let mut redis = Redis::start();
        assert!(redis.ask("SET a canary").unwrap().ends_with("+OK\r\n"));
        assert!(String::from_utf8_lossy(&redis.content()).contains("canary"));
        redis.hold();
        redis.go_on();
        redis.empty();
        redis.kill();
        assert!(redis.ask("PING").is_none());
        redis.start_again();
    }
}
