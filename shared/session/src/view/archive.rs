//! The whole worktree as `tar.zst`, written as it is read: one file is in memory at a time.
//!
//! The format is POSIX `ustar` with pax headers for names that do not fit it. Every entry has the owner 0, the time of the session's last save and
//! the mode that git records, so that the same worktree gives the same archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use mayfly_git::scratch::{Scratch, ScratchError, TreeEntry};
use mayfly_git::tree::EXECUTABLE;
use mayfly_protocol::{ObjectId, TreeId};
use tar::{Builder, EntryType, Header};

use super::objects::Objects;
use super::{SessionView, ViewError};
use crate::lfs::LfsEntry;
use crate::packs::damaged;

/// How much `zstd` tries: its own default.
const COMPRESSION_LEVEL: i32 = 3;

/// A worktree that is whole on the local disk, ready to be written as an archive.
pub struct Archive {
    scratch: Scratch,
    worktree: TreeId,
    /// The contents of Git LFS, as files, by the blobs of their pointers.
    lfs: HashMap<ObjectId, (PathBuf, u64)>,
    seconds: u64,
    max_entries: usize,
    max_file_bytes: u64,
}

/// Why an archive broke off.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Something of the worktree cannot be read.
    #[error("a file of the worktree cannot be read")]
    Read(#[from] ScratchError),
    /// The archive cannot be written.
    #[error("the archive cannot be written")]
    Write(#[from] io::Error),
}

/// What is counted before an archive begins.
#[derive(Default)]
struct Size {
    bytes: u64,
    too_large: Option<TreeEntry>,
    lfs: HashMap<ObjectId, LfsEntry>,
}

impl SessionView {
    /// Brings everything of the worktree here, and makes sure that each file of it is there and within the bounds.
    pub async fn archive(&self) -> Result<Archive, ViewError> {
        self.check_packs(self.manifest.packs.iter(), self.limits.max_archive_pack_bytes)?;
        let objects = Objects::open(self).await?;
        objects.download(self.manifest.packs.iter()).await?;
        let entries = self.sessions.lfs_entries(&self.manifest, None).await?;
        let used = self.measure(&objects, entries).await?;
        let lfs = self.bring_lfs(used).await?;
        let at = self.manifest.updated_at.unix_timestamp();
        let scratch = objects
            .into_scratch()
            .ok_or_else(|| damaged(&self.manifest, None, "it is still being read".to_owned()))?;
        Ok(Archive {
            scratch,
            worktree: self.manifest.worktree,
            lfs,
            seconds: u64::try_from(at).unwrap_or_default(),
            max_entries: self.limits.max_archive_entries,
            max_file_bytes: self.limits.max_archive_file_bytes,
        })
    }

    /// Downloads contents of Git LFS, each once.
    async fn bring_lfs(&self, used: Vec<LfsEntry>) -> Result<HashMap<ObjectId, (PathBuf, u64)>, ViewError> {
        let mut files = HashMap::new();
        for entry in used {
            let file = self.folder.join(format!("lfs-{}", entry.oid));
            let content = (&entry.pointer(), entry.week);
            self.sessions
                .download_lfs_content(&self.manifest, content, &file)
                .await?;
            files.insert(entry.blob, (file, entry.size));
        }
        Ok(files)
    }

    /// Adds up what the archive will hold; gives those of the contents of Git LFS that are in it.
    async fn measure(
        &self,
        objects: &Objects<'_>,
        lfs: HashMap<ObjectId, LfsEntry>,
    ) -> Result<Vec<LfsEntry>, ViewError> {
        let (worktree, max_entries) = (self.manifest.worktree, self.limits.max_archive_entries);
        let max_file = self.limits.max_archive_file_bytes;
        let counted = objects.try_with(move |scratch| {
            let mut size = Size::default();
            scratch.walk(&worktree, max_entries, |_, entry| {
                if entry.is_blob() {
                    let content = lfs.get(&entry.id).filter(|_| !entry.is_link());
                    let bytes = match content {
                        Some(content) => content.size,
                        None => scratch.blob_size(&entry.id)?,
                    };
                    size.lfs.extend(content.map(|content| (content.blob, *content)));
                    size.bytes = size.bytes.saturating_add(bytes);
                    if bytes > max_file && content.is_none() {
                        size.too_large.get_or_insert(*entry);
                    }
                }
                Ok::<_, ScratchError>(())
            })?;
            Ok(size)
        });
        let session = || self.manifest.session_id.clone();
        let size = counted.await.map_err(|source| match source {
            ScratchError::TooMany { max, .. } => ViewError::TooManyFiles {
                session: session(),
                max,
            },
            source => self.unreadable(source),
        })?;
        if let Some(entry) = size.too_large {
            return Err(self.object_too_large(entry.id, max_file));
        }
        let max = self.limits.max_archive_bytes;
        if size.bytes > max {
            return Err(ViewError::TooLarge {
                session: session(),
                what: "files",
                bytes: size.bytes,
                max,
            });
        }
        Ok(size.lfs.into_values().collect())
    }
}

impl Archive {
    /// Writes the archive. This blocks: it reads files, compresses, and waits for `out`.
    pub fn write_to<W: Write>(&self, out: W) -> Result<W, ArchiveError> {
        let mut builder = Builder::new(zstd::Encoder::new(out, COMPRESSION_LEVEL)?);
        self.scratch
            .walk(&self.worktree, self.max_entries, |path, entry| {
                self.append(&mut builder, path, entry)
            })?;
        Ok(builder.into_inner()?.finish()?)
    }

    fn append(
        &self,
        builder: &mut Builder<impl Write>,
        path: &[u8],
        entry: &TreeEntry,
    ) -> Result<(), ArchiveError> {
        if !entry.is_blob() {
            // A submodule is an empty folder, as a checkout has it.
            let folder = [path, b"/"].concat();
            let header = self.header(EntryType::Directory, 0o755);
            return Ok(append(builder, header, &folder, b"", io::empty())?);
        }
        let mode = if entry.mode == EXECUTABLE { 0o755 } else { 0o644 };
        if let Some((file, bytes)) = self.lfs.get(&entry.id).filter(|_| !entry.is_link()) {
            let mut header = self.header(EntryType::Regular, mode);
            header.set_size(*bytes);
            return Ok(append(builder, header, path, b"", File::open(file)?)?);
        }
        self.scratch
            .with_blob(&entry.id, self.max_file_bytes, |content| {
                if entry.is_link() {
                    return append(
                        builder,
                        self.header(EntryType::Symlink, 0o777),
                        path,
                        content,
                        io::empty(),
                    );
                }
                let mut header = self.header(EntryType::Regular, mode);
                header.set_size(content.len() as u64);
                append(builder, header, path, b"", content)
            })??;
        Ok(())
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.seconds);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header
    }
}

/// Appends one entry, whose header says how long its content is; names that do not fit its header stand in a pax header before it.
fn append(
    builder: &mut Builder<impl Write>,
    mut header: Header,
    path: &[u8],
    link: &[u8],
    content: impl io::Read,
) -> io::Result<()> {
    let mut long = Vec::new();
    if !set_name(&mut header, path) {
        long.push(("path", path));
    }
    if !set_link(&mut header, link) {
        long.push(("linkpath", link));
    }
    if !long.is_empty() {
        builder.append_pax_extensions(long)?;
    }
    header.set_cksum();
    builder.append(&header, content)
}

/// Puts the name into the header where it fits, and as much as fits where it does not.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    header
        .as_ustar_mut()
        .is_some_and(|ustar| fill(&mut ustar.name, name))
}

fn set_link(header: &mut Header, target: &[u8]) -> bool {
    header
        .as_ustar_mut()
        .is_some_and(|ustar| fill(&mut ustar.linkname, target))
}

fn fill(field: &mut [u8], value: &[u8]) -> bool {
    let fitting = value.len().min(field.len());
    field[..fitting].copy_from_slice(&value[..fitting]);
    fitting == value.len()
}
