//! Long histories by `git fast-import`, which makes a thousand commits in the time of one `git commit`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use super::FIRST_COMMIT_TIME;
use crate::git;

/// The stream for `count` commits on `branch`, of which the first is number `first` of its repository.
pub(super) fn fast_import_stream(branch: &str, parent: Option<&str>, first: u64, count: u64) -> String {
    let mut stream = String::new();
    for number in first..first + count {
        let message = format!("Change {number}\n");
        let content = format!("line {number}\n");
        let time = FIRST_COMMIT_TIME + 60 * number;
        let from = parent.filter(|_| number == first);
        let from = from.map_or(String::new(), |id| format!("from {id}\n"));
        let _infallible = write!(
            stream,
            "commit {branch}\ncommitter Test Person <person@example.com> {time} +0000\n\
             data {}\n{message}{from}M 100644 inline history.txt\ndata {}\n{content}\n",
            message.len(),
            content.len(),
        );
    }
    stream
}

#[track_caller]
pub(super) fn import(folder: &Path, stream: &str) {
    let mut child = git::command(folder)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("`git fast-import` can be started");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(stream.as_bytes()).expect("git reads the stream");
    drop(stdin);
    let status = child.wait().expect("git can be waited for");
    assert!(status.success(), "`git fast-import` failed: {status}");
}
