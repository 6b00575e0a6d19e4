//! Makes a repository of a given size: the same one each time.
//!
//! It is like those that people have: most of its objects are trees and small deltas of text, in many commits over deep folders, and a third of its
//! bytes are files that do not compress. About 2,300 objects and 130 commits to a megabyte of packs; a third of the packs' size is in the
//! files of the last commit.

mod text;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use super::git;
use text::Source;

/// The branch that has the history.
pub(super) const BRANCH: &str = "main";
/// What an epoch of the history adds to the packs, found by making some.
const BYTES_PER_EPOCH: u64 = 128 * 1024;
/// Text files for each epoch.
const FILES_PER_EPOCH: u64 = 3;
/// Commits of an epoch.
const COMMITS: u64 = 16;
/// Changes of text files in each of its commits.
const CHANGES: u64 = 3;
/// How often an epoch changes each of its files.
const VERSIONS: u64 = 3;
/// The bounds of a file that does not compress, in bytes.
const NOISE_BYTES: std::ops::Range<u64> = 8 * 1024..96 * 1024;
/// The seconds since 1970 of the first commit, and from one to the next.
const FIRST_COMMIT: u64 = 1_400_000_000;
const COMMIT_INTERVAL: u64 = 600;

/// The bytes of packs of a repository, as in `10MB`, `100MB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "expected a size from 1MB to 16GB, as `10MB`, `100MB` or `1GB`";
        let (number, unit) = match (text.strip_suffix("MB"), text.strip_suffix("GB")) {
            (Some(number), _) => (number, 1_000_000),
            (_, Some(number)) => (number, 1_000_000_000),
            _ => return Err(WANTED),
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit));
        bytes
            .filter(|bytes| (1_000_000..=16_000_000_000).contains(bytes))
            .map(Self)
            .ok_or(WANTED)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / 1_000_000 {
            megabytes if megabytes % 1000 == 0 => write!(f, "{}GB", megabytes / 1000),
            megabytes => write!(f, "{megabytes}MB"),
        }
    }
}

/// Makes the history in a bare repository, in one pack with a bitmap, as a host keeps it.
pub(super) fn make(bare: &Path, size: Size) -> anyhow::Result<()> {
    git::fast_import(bare, |out| History::new(size).write(out))?;
    git::bytes(bare, &["repack", "-a", "-d", "-q", "--write-bitmap-index"])?;
    Ok(())
}

/// A well mixed function of its inputs: all that is random here.
fn mix(values: &[u64]) -> u64 {
    values.iter().fold(0x6d61_7966_6c79, |state, value| {
        let mut z = (state ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The state of the history while it is written.
struct History {
    epochs: u64,
    /// How often each text file was changed.
    versions: Vec<u32>,
    commits: u64,
    marks: u64,
    source: Source,
}

impl History {
    fn new(size: Size) -> Self {
        let epochs = (size.0 / BYTES_PER_EPOCH).max(1);
        let files = usize::try_from(epochs * FILES_PER_EPOCH).unwrap_or(usize::MAX);
        Self {
            epochs,
            versions: vec![0; files],
            commits: 0,
            marks: 0,
            source: Source::new(),
        }
    }

    fn write(mut self, out: &mut dyn Write) -> io::Result<()> {
        self.first_commit(out)?;
        for epoch in 0..self.epochs {
            self.epoch(epoch, out)?;
        }
        Ok(())
    }

    fn first_commit(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let first = self.marks + 1;
        for file in 0..self.versions.len() as u64 {
            self.blob(file, out)?;
        }
        self.commit(out)?;
        for file in 0..self.versions.len() as u64 {
            writeln!(out, "M 100644 :{} {}", first + file, text::path(file))?;
        }
        writeln!(out)
    }

    /// Some commits, after all blobs that are new in them: versions of one file stand together, so that git finds them to be alike.
    fn epoch(&mut self, epoch: u64, out: &mut dyn Write) -> io::Result<()> {
        let files: Vec<u64> = (0..COMMITS * CHANGES / VERSIONS)
            .map(|slot| mix(&[1, epoch, slot]) % self.versions.len() as u64)
            .collect();
        let noise = self.noise(epoch, out)?;
        let first = self.marks + 1;
        for &file in &files {
            for _ in 0..VERSIONS {
                self.versions[usize::try_from(file).unwrap_or_default()] += 1;
                self.blob(file, out)?;
            }
        }
        for commit in 0..COMMITS {
            self.commit(out)?;
            if commit == 0 {
                let path = Self::noise_path(epoch);
                writeln!(out, "M 100644 :{noise} {path}")?;
            }
            for change in commit * CHANGES..(commit + 1) * CHANGES {
                let (slot, version) = (change % files.len() as u64, change / files.len() as u64);
                let mark = first + slot * VERSIONS + version;
                let file = files[usize::try_from(slot).unwrap_or_default()];
                writeln!(out, "M 100644 :{mark} {}", text::path(file))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Every other file that does not compress takes the place of an older one.
    fn noise_path(epoch: u64) -> String {
        let number = if epoch.is_multiple_of(2) {
            epoch
        } else {
            (mix(&[2, epoch]) % epoch) & !1
        };
        format!("assets/group{:02}/image{number:05}.bin", number / 2 % 24)
    }

    fn noise(&mut self, epoch: u64, out: &mut dyn Write) -> io::Result<u64> {
        let length = NOISE_BYTES.start + mix(&[3, epoch]) % (NOISE_BYTES.end - NOISE_BYTES.start);
        let words = length / 8;
        let mark = self.blob_head(words * 8, out)?;
        for word in 0..words {
            out.write_all(&mix(&[4, epoch, word]).to_le_bytes())?;
        }
        writeln!(out)?;
        Ok(mark)
    }

    /// The present version of a text file.
    fn blob(&mut self, file: u64, out: &mut dyn Write) -> io::Result<()> {
        let version = self.versions[usize::try_from(file).unwrap_or_default()];
        let text = self.source.file(file, version);
        self.blob_head(text.len() as u64, out)?;
        writeln!(out, "{text}")
    }

    fn blob_head(&mut self, length: u64, out: &mut dyn Write) -> io::Result<u64> {
        self.marks += 1;
        writeln!(out, "blob\nmark :{}\ndata {length}", self.marks)?;
        Ok(self.marks)
    }

    fn commit(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let number = self.commits;
        self.commits += 1;
        let time = FIRST_COMMIT + number * COMMIT_INTERVAL;
        let who = ["Ada", "Grace", "Edsger", "Barbara", "Donald"]
            [usize::try_from(mix(&[5, number]) % 5).unwrap_or_default()];
        let message = self.source.sentence(number);
        write!(
            out,
            "commit refs/heads/{BRANCH}\nauthor {who} <{who}@example.com> {time} +0000\n\
             committer {who} <{who}@example.com> {time} +0000\ndata {}\n{message}\n",
            message.len() + 1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for text in ["1MB", "10MB", "100MB", "1GB", "1500MB"] {
            assert_eq!(
                text.parse::<Size>().map(|size| size.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert_eq!("1000MB".parse::<Size>(), "1GB".parse());
        for bad in [
            "",
            "10",
            "MB",
            "0MB",
            "-1MB",
            "17GB",
            "99999999999999999999GB",
            "10mb",
            "1.5GB",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_made_repository_has_the_size_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let make_one = |name: &str| {
            let bare = mayfly_git_server::init_bare(folder.path(), name, BRANCH).unwrap();
            make(&bare, Size(2_000_000)).unwrap();
            bare
        };
        let (one, other) = (make_one("one"), make_one("other"));
        let head = |bare: &Path| git::text(bare, &["rev-parse", BRANCH]).unwrap();
        assert_eq!(head(&one), head(&other));
        let bytes: u64 = std::fs::read_dir(one.join("objects/pack"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "pack"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum();
        assert!((1_700_000..2_300_000).contains(&bytes), "{bytes}");
        git::bytes(&one, &["fsck", "--strict", "--no-dangling"]).unwrap();
    }
}
