//! A real S3 server that is not ours: moto, from the venv that `.ci/tools.sh` makes.
//!
//! Its conditional writes hold under races. It ends with the test process, however that ends: it watches its standard input.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::wait::PATIENCE;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often another port is tried because someone took the first between our look and the server's.
const PORT_ATTEMPTS: u32 = 5;
/// Calls that the checking server takes unsigned: those that make the bucket and the user.
const SETUP_CALLS: &str = "4";
const PROGRAM: &str = "
import os, sys, threading
def end_with_parent():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
from moto.server import main
main(sys.argv[1:])
";

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    addr: SocketAddr,
}

/// A key of a user of a [`Moto`] that checks signatures.
#[derive(Debug, Clone)]
pub struct MotoKey {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
}

impl Moto {
    /// The server of this test process: started by the first who asks, and shared by all its tests, each with a bucket of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server that takes any key and any signature; blocks for a few seconds.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server that checks signatures and rights, with the bucket `bucket`, and a user who may do all with it and nothing else.
    pub fn start_checking(bucket: &str) -> (Self, MotoKey) {
        let moto = Self::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", SETUP_CALLS)]);
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"s3:*","Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}}]}}"#
        );
        moto.create_bucket(bucket);
        moto.iam(&[("Action", "CreateUser"), ("UserName", "fleet")]);
        moto.iam(&[
            ("Action", "PutUserPolicy"),
            ("UserName", "fleet"),
            ("PolicyName", "p"),
            ("PolicyDocument", &policy),
        ]);
        let answer = moto.iam(&[("Action", "CreateAccessKey"), ("UserName", "fleet")]);
        let key = MotoKey {
            access_key_id: element(&answer, "AccessKeyId"),
            secret_access_key: element(&answer, "SecretAccessKey"),
        };
        (moto, key)
    }

    /// Where it listens, as `127.0.0.1:port`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL, for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Makes a bucket, on a server that does not check signatures.
    pub fn create_bucket(&self, bucket: &str) {
        let answer = self.exchange(&format!("PUT /{bucket} HTTP/1.1\r\nContent-Length: 0\r\n"), "");
        assert!(answer.starts_with("HTTP/1.1 200"), "no bucket: {answer}");
    }

    /// How many uploads in parts have begun in the bucket and not ended.
    pub fn unfinished_uploads(&self, bucket: &str) -> usize {
        let answer = self.exchange(&format!("GET /{bucket}?uploads HTTP/1.1\r\n"), "");
        assert!(answer.starts_with("HTTP/1.1 200"), "no list of uploads: {answer}");
        answer.matches("<UploadId>").count()
    }

    fn start_with(variables: &[(&str, &str)]) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let mut moto = Self::spawn(free_port(), variables);
            if moto.is_up() {
                return moto;
            }
        }
        panic!(
            "moto did not start on {PORT_ATTEMPTS} ports; try {} -m moto.server",
            python().display()
        );
    }

    #[expect(clippy::disallowed_methods, reason = "tests start the servers that they need")]
    fn spawn(addr: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let python = python();
        let child = Command::new(&python)
            .args(["-c", PROGRAM, "-H", "127.0.0.1", "-p", &addr.port().to_string()])
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Self { child, addr },
            Err(error) if error.kind() == ErrorKind::NotFound => panic!(
                "the tests need the S3 server moto at {}: run `.ci/tools.sh` once, which installs it",
                python.display()
            ),
            Err(error) => panic!("cannot start {}: {error}", python.display()),
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
        panic!("moto does not listen after {PATIENCE:?}");
    }

    fn iam(&self, fields: &[(&str, &str)]) -> String {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let body = format!("Version=2010-05-08&{}", pairs.join("&"));
        let head = format!(
            "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x\r\n",
            body.len()
        );
        let answer = self.exchange(&head, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "IAM refuses: {answer}");
        answer
    }

    /// One request on a connection of its own.
    fn exchange(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).expect("moto listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let request = format!("{head}Host: {}\r\nConnection: close\r\n\r\n{body}", self.addr);
        stream.write_all(request.as_bytes()).expect("moto reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("moto answers");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The folder of `.ci/tools.sh`: `MAYFLY_TOOLS`, relative to the workspace as the script has it, or `target/tools`.
pub fn tools_folder() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    workspace.join(std::env::var_os("MAYFLY_TOOLS").unwrap_or_else(|| "target/tools".into()))
}

fn python() -> PathBuf {
    tools_folder().join("py/bin/python")
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
    listener.local_addr().expect("a bound listener has an address")
}

fn element(xml: &str, name: &str) -> String {
    let rest = xml.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    let text = rest.and_then(|rest| rest.split_once("</")).map(|(text, _)| text);
    text.unwrap_or_else(|| panic!("no <{name}> in {xml}")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_and_ends() {
        let moto = Moto::start();
        moto.create_bucket("some-bucket");
        assert_eq!(moto.unfinished_uploads("some-bucket"), 0);
        let addr = moto.addr();
        drop(moto);
        assert!(TcpStream::connect(addr).is_err());
    }
}
