//! One file of the worktree, read by range.

use mayfly_git::scratch::{ObjectKind, ScratchError, TreeEntry};
use mayfly_protocol::ObjectId;
use mayfly_protocol::lfs::LfsPointer;

use super::objects::Objects;
use super::{SessionView, ViewError};
use crate::packs::damaged;

/// A file as it stands in the worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// The content; the target, where it is a symbolic link.
    pub bytes: Vec<u8>,
    /// The mode as git writes it: `100644`, `100755` or `120000`.
    pub mode: u32,
    /// The id of the blob.
    pub id: ObjectId,
    /// Whether Git LFS has the file, and what is given of it.
    pub lfs: Option<LfsPart>,
}

/// What is given of a file of Git LFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LfsPart {
    /// Its content.
    Content,
    /// The pointer that stands for it, as it is in the repository: the session does not have the content.
    Pointer,
}

impl SessionView {
    /// Reads the file at a checked path. Links on the way are not followed; a link at its end is shown as what it says.
    pub async fn file(&self, path: &[u8]) -> Result<FileContent, ViewError> {
        let objects = Objects::open(self).await?;
        let (worktree, wanted) = (self.manifest.worktree, path.to_vec());
        // Each round brings one more tree of the path.
        let entry = loop {
            let path = wanted.clone();
            match objects
                .try_with(move |scratch| scratch.entry(&worktree, &path))
                .await
            {
                Err(ScratchError::Missing { id }) => objects.require(vec![id]).await?,
                found => break found.map_err(|source| self.unreadable(source))?,
            }
        };
        let Some(entry) = entry else {
            return Err(ViewError::NoSuchFile {
                session: self.manifest.session_id.clone(),
                path: wanted.into(),
            });
        };
        if !entry.is_blob() {
            let what = if entry.is_folder() { "folder" } else { "submodule" };
            return Err(ViewError::NotAFile {
                session: self.manifest.session_id.clone(),
                path: wanted.into(),
                what,
            });
        }
        let max = self.limits.max_file_bytes;
        match objects.read(&entry.id, max).await? {
            Some((ObjectKind::Blob, bytes)) => {
                let (bytes, lfs) = self.with_lfs(&entry, bytes).await?;
                Ok(FileContent {
                    bytes,
                    mode: entry.mode,
                    id: entry.id,
                    lfs,
                })
            }
            Some((kind, _)) => {
                let reason = format!("object {} is a {kind} where a blob should be", entry.id);
                Err(damaged(&self.manifest, None, reason).into())
            }
            None => Err(self.object_too_large(entry.id, max)),
        }
    }

    /// The content in place of its pointer, where the session has it.
    async fn with_lfs(
        &self,
        entry: &TreeEntry,
        bytes: Vec<u8>,
    ) -> Result<(Vec<u8>, Option<LfsPart>), ViewError> {
        if entry.is_link() || LfsPointer::parse(&bytes).is_none() {
            return Ok((bytes, None));
        }
        let entries = self.sessions.lfs_entries(&self.manifest, None).await?;
        let Some(found) = entries.get(&entry.id) else {
            return Ok((bytes, Some(LfsPart::Pointer)));
        };
        let max = self.limits.max_file_bytes;
        if found.size > max {
            return Err(self.object_too_large(entry.id, max));
        }
        let content = self.sessions.lfs_content(&self.manifest, found).await?;
        Ok((content.into(), Some(LfsPart::Content)))
    }
}
