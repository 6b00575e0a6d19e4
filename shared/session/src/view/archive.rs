//! The whole worktree as `tar.zst`, written as it is read: one file is in memory at a time.
//!
//! The format is POSIX `ustar` with pax headers for names that do not fit it. Every entry has the owner 0, the time of the session's last save and
//! the mode that git records, so that the same worktree gives the same archive.

use std::io::{self, Write};

use mayfly_git::scratch::{Scratch, ScratchError, TreeEntry};
use mayfly_git::tree::EXECUTABLE;
use mayfly_protocol::TreeId;
use tar::{Builder, EntryType, Header};

use super::objects::Objects;
use super::{SessionView, ViewError};
use crate::packs::damaged;

/// How much `zstd` tries: its own default.
const COMPRESSION_LEVEL: i32 = 3;

/// A worktree that is whole on the local disk, ready to be written as an archive.
pub struct Archive {
    scratch: Scratch,
    worktree: TreeId,
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
}

impl SessionView {
    /// Brings everything of the worktree here, and makes sure that each file of it is there and within the bounds.
    pub async fn archive(&self) -> Result<Archive, ViewError> {
        self.check_packs(self.manifest.packs.iter(), self.limits.max_archive_pack_bytes)?;
        let objects = Objects::open(self).await?;
        objects.download(self.manifest.packs.iter()).await?;
        self.measure(&objects).await?;
        let at = self.manifest.updated_at.unix_timestamp();
        let scratch = objects
            .into_scratch()
            .ok_or_else(|| damaged(&self.manifest, None, "it is still being read".to_owned()))?;
        Ok(Archive {
            scratch,
            worktree: self.manifest.worktree,
            seconds: u64::try_from(at).unwrap_or_default(),
            max_entries: self.limits.max_archive_entries,
            max_file_bytes: self.limits.max_archive_file_bytes,
        })
    }

    async fn measure(&self, objects: &Objects<'_>) -> Result<(), ViewError> {
        let (worktree, max_entries) = (self.manifest.worktree, self.limits.max_archive_entries);
        let max_file = self.limits.max_archive_file_bytes;
        let counted = objects.try_with(move |scratch| {
            let mut size = Size::default();
            scratch.walk(&worktree, max_entries, |_, entry| {
                if entry.is_blob() {
                    let bytes = scratch.blob_size(&entry.id)?;
                    size.bytes = size.bytes.saturating_add(bytes);
                    if bytes > max_file {
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
        Ok(())
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
            return Ok(append(builder, header, &folder, b"", b"")?);
        }
        self.scratch
            .with_blob(&entry.id, self.max_file_bytes, |content| {
                if entry.is_link() {
                    return append(
                        builder,
                        self.header(EntryType::Symlink, 0o777),
                        path,
                        content,
                        b"",
                    );
                }
                let mode = if entry.mode == EXECUTABLE { 0o755 } else { 0o644 };
                append(builder, self.header(EntryType::Regular, mode), path, b"", content)
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
        header
    }
}

/// Appends one entry; names that do not fit its header stand in a pax header before it.
fn append(
    builder: &mut Builder<impl Write>,
    mut header: Header,
    path: &[u8],
    link: &[u8],
    content: &[u8],
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
    header.set_size(content.len() as u64);
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
