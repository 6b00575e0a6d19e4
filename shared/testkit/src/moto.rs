//! A real S3 server that is not ours: moto, from the venv that `.ci/tools.sh` makes.
//!
//! It looks at the condition of a write and then writes, with nothing that holds the two together, so on a busy machine both of two rivals may win.
//! Here it does one write after the other, as S3 does those of one object. It ends with the test process, however that ends: it watches its standard input.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::child_server::{ChildServer, tools_folder};

/// Calls that the checking server takes unsigned: those that make the bucket and the user.
const SETUP_CALLS: &str = "4";
const PROGRAM: &str = "
import os, sys, threading
def end_with_parent():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
from moto.s3.responses import S3Response
from moto.server import main
writing = threading.RLock()
def one_at_a_time(write):
    def locked(*args, **kwargs):
        with writing:
            return write(*args, **kwargs)
    return locked
S3Response.put_object = one_at_a_time(S3Response.put_object)
S3Response._key_response_post = one_at_a_time(S3Response._key_response_post)
main(sys.argv[1:])
";

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Moto(ChildServer);

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
        self.0.addr()
    }

    /// Its URL, for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    /// Makes a bucket, on a server that does not check signatures.
    pub fn create_bucket(&self, bucket: &str) {
        self.0.create_bucket(bucket);
    }

    /// How many uploads in parts have begun in the bucket and not ended.
    pub fn unfinished_uploads(&self, bucket: &str) -> usize {
        let answer = self
            .0
            .exchange(&format!("GET /{bucket}?uploads HTTP/1.1\r\n"), "");
        assert!(answer.starts_with("HTTP/1.1 200"), "no list of uploads: {answer}");
        answer.matches("<UploadId>").count()
    }

    fn start_with(variables: &[(&str, &str)]) -> Self {
        Self(ChildServer::start("moto", |addr| command(addr, variables)))
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
        let answer = self.0.exchange(&head, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "IAM refuses: {answer}");
        answer
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start the servers that they need")]
fn command(addr: SocketAddr, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(tools_folder().join("py/bin/python"));
    command
        .args(["-c", PROGRAM, "-H", "127.0.0.1", "-p", &addr.port().to_string()])
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::piped());
    command
}

fn element(xml: &str, name: &str) -> String {
    let rest = xml.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    let text = rest.and_then(|rest| rest.split_once("</")).map(|(text, _)| text);
    text.unwrap_or_else(|| panic!("no <{name}> in {xml}")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

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
