//! Writers in several processes swap one object in a directory; one of them is killed on the way. No swap is lost or done twice.
//!
//! The program is its own child: `rivals --child ROOT WRITER LEDGER` appends its lines to the object until it has its share.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use mayfly_storage::{DirectoryStore, Key, ObjectStore, Precondition, StorageError, StorageOptions};

const WRITERS: usize = 6;
const LINES_EACH: usize = 20;
const VICTIM: usize = 0;
const VICTIM_LIVES_FOR_LINES: usize = 3;
const MAX_BYTES: u64 = 1024 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [mode, root, writer, ledger] if mode == "--child" => {
            child(Path::new(root), writer, Path::new(ledger));
        }
        _ => parent(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn child(root: &Path, writer: &str, ledger: &Path) {
    let store = DirectoryStore::open(root, &StorageOptions::default())
        .await
        .unwrap();
    let mut ledger = OpenOptions::new().create(true).append(true).open(ledger).unwrap();
    for number in 1..=LINES_EACH {
        while !append(&store, &format!("{writer} {number}\n")).await {}
        writeln!(ledger, "{number}").unwrap();
    }
}

async fn append(store: &DirectoryStore, line: &str) -> bool {
    let object = store.get(&log(), MAX_BYTES).await.unwrap();
    let content = [object.bytes.as_ref(), line.as_bytes()].concat();
    match store
        .put(&log(), content.into(), Precondition::IfMatch(object.version))
        .await
    {
        Ok(_) => true,
        Err(StorageError::PreconditionFailed { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

fn log() -> Key {
    Key::new("some/folder/log").unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn parent() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let store = DirectoryStore::open(&root, &StorageOptions::default())
        .await
        .unwrap();
    store
        .put(&log(), Vec::new().into(), Precondition::IfAbsent)
        .await
        .unwrap();

    let ledger = |writer: usize| folder.path().join(format!("ledger-{writer}"));
    let mut children: Vec<Child> = (0..WRITERS)
        .map(|writer| start(&root, writer, &ledger(writer)))
        .collect();
    while lines(&ledger(VICTIM)) < VICTIM_LIVES_FOR_LINES {
        thread::sleep(Duration::from_millis(1));
    }
    children[VICTIM].kill().unwrap();
    for (writer, child) in children.iter_mut().enumerate() {
        let status = child.wait().unwrap();
        assert!(writer == VICTIM || status.success(), "writer {writer}: {status}");
    }

    let log = store.get(&log(), MAX_BYTES).await.unwrap();
    let log = std::str::from_utf8(&log.bytes).unwrap();
    for writer in 0..WRITERS {
        check(log, writer, lines(&ledger(writer)));
    }
}

#[expect(clippy::disallowed_methods, reason = "the rivals are processes")]
fn start(root: &Path, writer: usize, ledger: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg("--child")
        .arg(root)
        .arg(writer.to_string())
        .arg(ledger);
    command.spawn().unwrap()
}

fn lines(path: &PathBuf) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// A writer's lines are there without gap or double, and all that it knew of; a killed one may not have noted its last.
fn check(log: &str, writer: usize, noted: usize) {
    let prefix = format!("{writer} ");
    let numbers: Vec<usize> = log
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(|number| number.parse().unwrap())
        .collect();
    let expected: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, expected, "writer {writer}");
    let unnoted = usize::from(writer == VICTIM);
    assert!(
        (noted..=noted + unnoted).contains(&numbers.len()),
        "writer {writer}: {} of {noted}",
        numbers.len()
    );
    assert!(writer == VICTIM || noted == LINES_EACH);
}
