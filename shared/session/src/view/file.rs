//! One file of the worktree, read by range.

use mayfly_git::scratch::{ObjectKind, ScratchError};
use mayfly_protocol::ObjectId;

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
            Some((ObjectKind::Blob, bytes)) => Ok(FileContent {
                bytes,
                mode: entry.mode,
                id: entry.id,
            }),
            Some((kind, _)) => {
                let reason = format!("object {} is a {kind} where a blob should be", entry.id);
                Err(damaged(&self.manifest, None, reason).into())
            }
            None => Err(self.object_too_large(entry.id, max)),
        }
    }
}
