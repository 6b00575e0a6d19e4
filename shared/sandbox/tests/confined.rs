//! A process beside another one of the same user, which has something to hide: what it can do without the sandbox, and what it cannot do within.
//!
//! The program is its own children: `confined --victim FOLDER` has a file, a socket and a secret in its environment, and
//! `confined --probe …` tries to get at them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![expect(clippy::disallowed_methods, reason = "the processes are what is tested")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[path = "../examples/probe.rs"]
mod probe;

use probe::{Outcomes, Targets, attempts};

const DONE: &str = "done";
/// Attempts that a user may be refused without any sandbox: they want privileges, or the machine forbids them to everybody.
const PRIVILEGED: &[&str] = &[
    "list the home",
    "write to /etc",
    "read the machine's log",
    "begin namespaces",
    "change the root",
    "mount",
    "trace it",
    "read its memory",
    "read its mem",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--victim") => victim(Path::new(&arguments.next().unwrap())),
        Some("--probe") => {
            let outcomes = attempts(&Targets::parse(arguments).unwrap());
            std::io::stdout()
                .write_all(&serde_json::to_vec(&outcomes).unwrap())
                .unwrap();
        }
        _ => parent(),
    }
}

/// Has something to hide until its standard input ends.
fn victim(folder: &Path) {
    std::fs::write(folder.join("secret"), "hidden").unwrap();
    let _listener = UnixListener::bind(folder.join("socket")).unwrap();
    std::io::stdout().write_all(b"ready\n").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn parent() {
    let free = side_by_side(false);
    for (what, outcome) in &free {
        let may_fail = PRIVILEGED.contains(&what.as_str());
        assert!(
            may_fail || outcome == DONE,
            "without the sandbox: {what}: {outcome}"
        );
    }
    let confined = side_by_side(true);
    assert_eq!(
        free.keys().collect::<Vec<_>>(),
        confined.keys().collect::<Vec<_>>()
    );
    for (what, outcome) in &confined {
        assert_eq!(
            outcome == DONE,
            what.starts_with("own: "),
            "in the sandbox: {what}: {outcome}"
        );
    }
}

/// What the probe can do beside a fresh victim.
fn side_by_side(confined: bool) -> Outcomes {
    let folder = tempfile::tempdir().unwrap();
    let [own, others] = ["own", "others"].map(|name| folder.path().join(name));
    for folder in [&own, &others] {
        std::fs::create_dir(folder).unwrap();
    }
    let mut victim = start(
        Command::new(program())
            .arg("--victim")
            .arg(&others)
            .env("SECRET", "hidden"),
    );
    let mut line = String::new();
    BufReader::new(victim.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let mut probe = Command::new(program());
    probe
        .arg("--probe")
        .arg("--own")
        .arg(&own)
        .args(["--victim", &victim.id().to_string()]);
    probe
        .arg("--file")
        .arg(others.join("secret"))
        .arg("--socket")
        .arg(others.join("socket"));
    if confined {
        probe.arg("--confined");
    }
    let ended = start(&mut probe).wait_with_output().unwrap();
    drop(victim.stdin.take());
    victim.wait().unwrap();
    assert!(ended.status.success(), "{}", ended.status);
    let outcomes: Outcomes = serde_json::from_slice(&ended.stdout).unwrap();
    // The two runs have other folders.
    let place = folder.path().display().to_string();
    outcomes
        .into_iter()
        .map(|(what, outcome)| (what.replace(&place, ""), outcome))
        .collect()
}

fn program() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}
