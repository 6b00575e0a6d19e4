//! Real S3 servers that are not ours, installed by `.ci/tools.sh`: three that keep conditional writes, and one that does not.
//!
//! Each is started by the first test that asks and shared by all tests of its process; Ceph, which takes 15 s to start, by all test processes
//! that run at the same time. A test works under a prefix of its own. None outlives its tests, however they end.

mod ceph;
pub mod clock;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use uuid::Uuid;

use crate::child_server::{ChildServer, tools_folder};
use crate::moto::Moto;

/// The bucket that every server has.
const BUCKET: &str = "mayfly-tests";
const REGION: &str = "us-east-1";
/// Of servers that look at no signature, and of the one that is given its key at the start.
const KEY: (&str, &str) = ("test-key-id", "test-secret-access-key");

/// Runs ministack, and ends it when standard input ends.
const MINISTACK: &str = "
import os, sys, threading
def end_with_parent():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
sys.argv = sys.argv[:1]
from ministack.app import main
main()
";

/// Runs a program on a temporary folder, and ends it and removes the folder when standard input ends.
const ON_A_FOLDER: &str = "
import os, shutil, subprocess, sys, tempfile, threading
folder = tempfile.mkdtemp(prefix='mayfly-s3-')
os.mkdir(os.path.join(folder, sys.argv[1]))
child = subprocess.Popen(sys.argv[2:] + [folder], stdin=subprocess.DEVNULL)
def end_with_parent():
    sys.stdin.read()
    child.kill()
threading.Thread(target=end_with_parent, daemon=True).start()
child.wait()
shutil.rmtree(folder, ignore_errors=True)
";

/// A bucket on a running server, and a key for it.
#[derive(Debug, Clone)]
pub struct S3Place {
    /// The server, as `http://host:port`.
    pub endpoint: String,
    /// The public half of the key.
    pub access_key_id: String,
    /// The secret half of the key.
    pub secret_access_key: String,
    /// The bucket.
    pub bucket: String,
}

impl S3Place {
    /// moto, whose conditional writes hold under races; it looks at no signature.
    pub fn moto() -> &'static Self {
        static PLACE: OnceLock<S3Place> = OnceLock::new();
        PLACE.get_or_init(|| {
            Moto::shared().create_bucket(BUCKET);
            Self::with_fixed_key(Moto::shared().endpoint())
        })
    }

    /// ministack, whose conditional writes hold under races, and which checks `Content-MD5` and checksums.
    pub fn ministack() -> &'static Self {
        static PLACE: OnceLock<(ChildServer, S3Place)> = OnceLock::new();
        let started = PLACE.get_or_init(|| {
            let server = ChildServer::start("ministack", ministack);
            server.create_bucket(BUCKET);
            let place = Self::with_fixed_key(server.endpoint());
            (server, place)
        });
        &started.1
    }

    /// Ceph's gateway over a cluster of one. It checks signatures, takes ETags without quotes only, tells an absent key of a swap as 412, and
    /// looks at no condition of a delete or of the end of an upload in parts.
    pub fn ceph() -> &'static Self {
        static PLACE: OnceLock<(ceph::Lease, S3Place)> = OnceLock::new();
        &PLACE.get_or_init(ceph::lease).1
    }

    /// s3s-fs, which checks conditions one by one, and lets both writers of a race win.
    pub fn racy() -> &'static Self {
        static PLACE: OnceLock<(ChildServer, S3Place)> = OnceLock::new();
        let started = PLACE.get_or_init(|| {
            let server = ChildServer::start("s3s-fs", s3s_fs);
            let place = Self::with_fixed_key(server.endpoint());
            (server, place)
        });
        &started.1
    }

    fn with_fixed_key(endpoint: String) -> Self {
        Self {
            endpoint,
            access_key_id: KEY.0.to_owned(),
            secret_access_key: KEY.1.to_owned(),
            bucket: BUCKET.to_owned(),
        }
    }

    /// The same bucket and key, by way of another address such as a proxy's.
    #[must_use]
    pub fn through(&self, endpoint: String) -> Self {
        Self {
            endpoint,
            ..self.clone()
        }
    }

    /// A `STORAGE_URL` with a prefix that nobody else uses.
    pub fn fresh_url(&self) -> String {
        format!("s3://{}/{}", self.bucket, Uuid::new_v4())
    }

    /// The variables of the AWS SDK for this place.
    pub fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", &self.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
        ]
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start the servers that they need")]
fn ministack(addr: SocketAddr) -> Command {
    let mut command = Command::new(tools_folder().join("ministack/bin/python"));
    command
        .args(["-c", MINISTACK])
        .env_clear()
        .env("BIND_HOST", addr.ip().to_string())
        .env("GATEWAY_PORT", addr.port().to_string())
        .stdin(Stdio::piped());
    command
}

#[expect(clippy::disallowed_methods, reason = "tests start the servers that they need")]
fn s3s_fs(addr: SocketAddr) -> Command {
    let program: PathBuf = tools_folder().join("s3s/bin/s3s-fs");
    assert!(
        program.exists(),
        "the tests need s3s-fs at {}: run `.ci/tools.sh` once, which builds it",
        program.display()
    );
    let mut command = Command::new(tools_folder().join("py/bin/python"));
    command
        .args(["-c", ON_A_FOLDER, BUCKET])
        .arg(program)
        .args(["--host", "127.0.0.1", "--port", &addr.port().to_string()])
        .args(["--access-key", KEY.0, "--secret-key", KEY.1])
        .env_clear()
        .stdin(Stdio::piped());
    command
}
