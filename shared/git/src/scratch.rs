//! A scratch repository: a folder with packs, and in memory the objects that a job makes.
//!
//! It holds only what the job needs, so an object that is absent is nothing unusual. It is an object database and
//! nothing else: there is no configuration, no ref, no hook, no attribute and no working tree that could be obeyed.
//! This module must not know sessions, storage or the network.

mod commit;
mod files;
mod fold;
mod history;
mod limits;
mod packs;
mod received;

use std::cell::RefCell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use git2::{ErrorCode as GitCode, Odb, OdbLookupFlags, OdbObject, Repository};
use mayfly_protocol::{ErrorCode, ObjectId, TreeId};

pub use crate::identity::Signature;
pub use crate::merge::MergeError;
pub use crate::object::ObjectKind;
pub use crate::tree::TreeEntry;
pub use commit::CommitInfo;
pub use fold::{Folded, Joined, Standing};
pub use history::{HistoryWalk, WalkStep};
pub use limits::ScratchLimits;

use crate::object::to_oid;
use crate::tree::{self, EntryRef, MalformedTree};

/// The repository half's one repository. It can be sent to another thread, and used by one at a time.
pub struct Scratch {
    objects: PathBuf,
    odb: Odb<'static>,
    repository: Repository,
    limits: ScratchLimits,
    made: RefCell<Made>,
}

/// What is kept in memory.
#[derive(Default)]
struct Made {
    /// The objects that this job made, in that order.
    new: Vec<ObjectId>,
    /// Bytes of all objects in memory, also of those that came from elsewhere.
    bytes: u64,
}

/// Work on a scratch repository failed.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// A file or folder of the scratch folder cannot be made or read.
    #[error("the scratch repository could not {doing} `{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The git library failed.
    #[error("the scratch repository could not {doing}")]
    Git {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: git2::Error,
    },
    /// An object that is needed is not here.
    #[error("object {id} is missing")]
    Missing {
        /// The object.
        id: ObjectId,
    },
    /// An object is not what its id says, or cannot be read as what it should be.
    #[error("object {id} is damaged: {reason}")]
    Damaged {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        reason: String,
    },
    /// An object is larger than one that is read whole may be.
    #[error("object {id} has {bytes} bytes, and {max} are allowed")]
    TooLarge {
        /// The object.
        id: ObjectId,
        /// Its size.
        bytes: u64,
        /// `ScratchLimits::max_object_bytes`.
        max: u64,
    },
    /// The job makes more than it may.
    #[error("the job makes objects of more than {max} bytes; make smaller changes")]
    Full {
        /// `ScratchLimits::max_new_bytes`.
        max: u64,
    },
    /// There are more changes, or more history, than may be looked at.
    #[error("there are more than {max} {what}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A pack is not named by a SHA-1.
    #[error("the pack name `{name}` is not 40 hexadecimal digits")]
    PackName {
        /// The name.
        name: String,
    },
    /// A signature cannot stand in a commit.
    #[error("the commit cannot be made")]
    Signature(#[from] crate::identity::InvalidSignature),
    /// A commit message has a NUL, at which some programs would stop reading.
    #[error("the commit message has a NUL character; leave it out")]
    Message,
    /// The caller's token was cancelled.
    #[error("the work was cancelled")]
    Cancelled,
}

impl ScratchError {
    /// The code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Io { source, .. } => disk_code(source),
            Self::Git { source, .. } if source.message().contains("No space left") => ErrorCode::DiskFull,
            Self::Git { .. } | Self::PackName { .. } => ErrorCode::Internal,
            Self::Missing { .. } | Self::Damaged { .. } => ErrorCode::SessionDamaged,
            Self::TooLarge { .. } => ErrorCode::ObjectTooLarge,
            Self::Full { .. } | Self::TooMany { .. } => ErrorCode::ChangesTooLarge,
            Self::Signature(_) | Self::Message => ErrorCode::InvalidRequest,
            Self::Cancelled => ErrorCode::Cancelled,
        }
    }

    pub(crate) fn malformed(tree: &TreeId, malformed: MalformedTree) -> Self {
        Self::Damaged {
            id: *tree,
            reason: malformed.to_string(),
        }
    }
}

pub(crate) fn disk_code(error: &std::io::Error) -> ErrorCode {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        _ => ErrorCode::Internal,
    }
}

pub(crate) fn git_error(doing: &'static str) -> impl FnOnce(git2::Error) -> ScratchError {
    move |source| ScratchError::Git { doing, source }
}

impl Scratch {
    /// Makes an empty scratch repository in `dir`, which is made where it does not exist.
    pub fn create(dir: &Path, limits: ScratchLimits) -> Result<Self, ScratchError> {
        let objects = dir.join("objects");
        let packs = objects.join("pack");
        fs::create_dir_all(&packs).map_err(|source| ScratchError::Io {
            doing: "make the folder",
            path: packs.clone(),
            source,
        })?;
        // Every object that is read is hashed, and held against its id.
        git2::opts::strict_hash_verification(true);
        let (odb, repository) = open(&objects).map_err(git_error("open its object database"))?;
        Ok(Self {
            objects,
            odb,
            repository,
            limits,
            made: RefCell::default(),
        })
    }

    /// Whether the object is here.
    pub fn has(&self, id: &ObjectId) -> bool {
        self.odb.exists_ext(to_oid(id), OdbLookupFlags::NO_REFRESH)
    }

    /// Adds an object that exists elsewhere, such as an old blob that was read by range. It is readable here, and no part of
    /// [`Self::write_new_pack`]. The caller compares the id.
    pub fn add_object(&self, kind: ObjectKind, content: &[u8]) -> Result<ObjectId, ScratchError> {
        self.keep(kind, content).map(|(id, _)| id)
    }

    /// Makes an object of this job; one that is here already is not made again.
    pub(crate) fn write(&self, kind: ObjectKind, content: &[u8]) -> Result<ObjectId, ScratchError> {
        let (id, was_absent) = self.keep(kind, content)?;
        if was_absent {
            self.made.borrow_mut().new.push(id);
        }
        Ok(id)
    }

    fn keep(&self, kind: ObjectKind, content: &[u8]) -> Result<(ObjectId, bool), ScratchError> {
        let id = kind.hash(content).map_err(git_error("hash an object"))?;
        if self.has(&id) {
            return Ok((id, false));
        }
        let mut made = self.made.borrow_mut();
        let bytes = made.bytes.saturating_add(content.len() as u64);
        if bytes > self.limits.max_new_bytes {
            return Err(ScratchError::Full {
                max: self.limits.max_new_bytes,
            });
        }
        self.odb
            .write(kind.into(), content)
            .map_err(git_error("keep an object"))?;
        made.bytes = bytes;
        Ok((id, true))
    }

    /// The kind and the size of an object, without reading it.
    pub(crate) fn header(&self, id: &ObjectId) -> Result<(ObjectKind, u64), ScratchError> {
        let damaged = |reason: &str| ScratchError::Damaged {
            id: *id,
            reason: reason.to_owned(),
        };
        // git2 panics where a damaged pack gives it a kind that is none.
        let header = catch_unwind(AssertUnwindSafe(|| self.odb.read_header(to_oid(id))));
        let header = header.map_err(|_| damaged("its header cannot be read"))?;
        let (bytes, kind) = header.map_err(|error| read_error(*id, &error))?;
        let kind = ObjectKind::try_from(kind).map_err(|reason| damaged(&reason.to_string()))?;
        Ok((kind, bytes as u64))
    }

    /// Reads an object of the kind that is expected.
    pub(crate) fn read(&self, id: &ObjectId, expected: ObjectKind) -> Result<OdbObject<'_>, ScratchError> {
        self.read_bounded(id, expected, self.limits.max_object_bytes)
    }

    pub(crate) fn read_bounded(
        &self,
        id: &ObjectId,
        expected: ObjectKind,
        max: u64,
    ) -> Result<OdbObject<'_>, ScratchError> {
        let (kind, bytes) = self.header(id)?;
        if kind != expected {
            let reason = format!("it is a {kind} where a {expected} should be");
            return Err(ScratchError::Damaged { id: *id, reason });
        }
        if bytes > max {
            return Err(ScratchError::TooLarge { id: *id, bytes, max });
        }
        self.odb.read(to_oid(id)).map_err(|error| read_error(*id, &error))
    }

    /// The content of a file, or the target of a link, of at most `max_bytes`.
    pub fn blob(&self, id: &ObjectId, max_bytes: u64) -> Result<Vec<u8>, ScratchError> {
        self.read_bounded(id, ObjectKind::Blob, max_bytes)
            .map(|object| object.data().to_vec())
    }

    /// Calls `visit` for each entry of a tree.
    pub(crate) fn each_entry(
        &self,
        tree: &TreeId,
        mut visit: impl FnMut(EntryRef<'_>) -> Result<(), ScratchError>,
    ) -> Result<(), ScratchError> {
        let object = self.read(tree, ObjectKind::Tree)?;
        for entry in tree::entries(object.data()) {
            let entry = entry.map_err(|malformed| ScratchError::malformed(tree, malformed))?;
            visit(entry)?;
        }
        Ok(())
    }

    /// What stands at a path of a tree. Links and submodules on the way are not followed: what is behind them is absent.
    pub fn entry(&self, tree: &TreeId, path: impl AsRef<[u8]>) -> Result<Option<TreeEntry>, ScratchError> {
        let mut found = TreeEntry {
            mode: tree::FOLDER,
            id: *tree,
        };
        for component in path.as_ref().split(|&b| b == b'/') {
            if !found.is_folder() {
                return Ok(None);
            }
            let mut next = None;
            self.each_entry(&found.id, |entry| {
                if entry.name == component {
                    next = Some(entry.entry());
                }
                Ok(())
            })?;
            match next {
                Some(entry) => found = entry,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }
}

/// Opens the packs in a folder of objects, and puts memory before them as the only place that takes writes.
///
/// The repository is a hull round that, as the pack builder needs one; with its empty configuration it reads none of the machine's.
fn open(objects: &Path) -> Result<(Odb<'static>, Repository), git2::Error> {
    let odb = Odb::new()?;
    let path = objects
        .to_str()
        .ok_or_else(|| git2::Error::from_str("the path of the scratch folder is not UTF-8"))?;
    odb.add_disk_alternate(path)?;
    odb.add_new_mempack_backend(1000)?;
    let repository = Repository::from_odb(Odb::new()?)?;
    repository.set_odb(&odb)?;
    repository.set_config(&git2::Config::new()?)?;
    Ok((odb, repository))
}

fn read_error(id: ObjectId, error: &git2::Error) -> ScratchError {
    match error.code() {
        GitCode::NotFound => ScratchError::Missing { id },
        _ => ScratchError::Damaged {
            id,
            reason: error.message().to_owned(),
        },
    }
}
