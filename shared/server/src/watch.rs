//! A file that is read again when it has changed.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use mayfly_telemetry::task;

/// A file's state on the disk. The change time is set by the kernel, so that a file put in its place with an old date is seen as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// A small file, and how it looked when it was last read.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    max_bytes: u64,
    seen: Option<Stamp>,
}

impl WatchedFile {
    /// A file that was not read yet, and of which at most so many bytes are taken.
    pub fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self {
            path,
            max_bytes,
            seen: None,
        }
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it looks different from when it was last read. A file that cannot be looked at has changed if it could be before.
    pub async fn has_changed(&self) -> bool {
        let path = self.path.clone();
        let now = task::blocking(move || std::fs::metadata(path).ok().map(|found| Stamp::of(&found))).await;
        now != self.seen
    }

    /// Reads it. Whatever becomes of that, it has not changed until it looks different again.
    pub async fn read(&mut self) -> io::Result<Vec<u8>> {
        let (path, max_bytes) = (self.path.clone(), self.max_bytes);
        let (seen, bytes) = task::blocking(move || read(&path, max_bytes)).await;
        self.seen = seen;
        bytes
    }
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The stamp is taken before the bytes: a change between the two is seen the next time.
fn read(path: &Path, max_bytes: u64) -> (Option<Stamp>, io::Result<Vec<u8>>) {
    let seen = std::fs::metadata(path).ok().map(|found| Stamp::of(&found));
    let bytes = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(max_bytes + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > max_bytes {
            true => Err(io::Error::other(format!("it has more than {max_bytes} bytes"))),
            false => Ok(bytes),
        }
    });
    (seen, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once_and_a_loss_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut file = WatchedFile::new(path.clone(), 5);
        assert!(file.has_changed().await);
        assert_eq!(file.read().await.unwrap(), b"one");
        assert!(!file.has_changed().await);
        // Another file of the same length in its place, as secrets are replaced.
        let next = folder.path().join("next");
        std::fs::write(&next, "two").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert!(file.has_changed().await);
        assert_eq!(file.read().await.unwrap(), b"two");
        std::fs::remove_file(&path).unwrap();
        assert!(file.has_changed().await);
        assert!(file.read().await.is_err());
        assert!(!file.has_changed().await);
        std::fs::write(&path, "longer").unwrap();
        assert!(file.read().await.unwrap_err().to_string().contains("more than 5"));
    }
}
