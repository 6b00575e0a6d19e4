//! Packs of a session as files: uploaded and downloaded whole.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use mayfly_git::pack::{PackFiles, PackLimits};
use mayfly_protocol::{ObjectId, SessionId};
use mayfly_storage::{Precondition, StorageError};
use sha1::{Digest, Sha1};

use crate::key::{self, PackKeys};
use crate::manifest::{Manifest, PackEntry, PackKind, PackScope};
use crate::pack_name::PackName;
use crate::store::{LoadError, SaveError, SessionStore};

/// Packs that are downloaded at the same time.
const DOWNLOADS_AT_ONCE: usize = 8;

/// How a manifest lists a pack that lies under this name.
pub(crate) fn entry(
    session: &SessionId,
    name: PackName,
    files: &PackFiles,
    kind: PackKind,
) -> Result<PackEntry, SaveError> {
    Ok(PackEntry {
        hash: files.hash.parse().map_err(|source| SaveError::PackName {
            session: session.clone(),
            source,
        })?,
        name,
        kind,
        scope: match kind {
            PackKind::Job | PackKind::Past => PackScope::Session,
            PackKind::Base | PackKind::Trees => PackScope::Repository,
        },
        objects: files.objects,
        pack_bytes: files.pack_bytes,
        index_bytes: files.index_bytes,
    })
}

impl SessionStore {
    /// Uploads a pack and its index under a name of their own, and says how the manifest is to list it. Content that is there already is stored
    /// once more: to lean on what another job stored, and nobody may list any more, would race with its removal.
    pub async fn upload_pack(
        &self,
        manifest: &Manifest,
        files: &PackFiles,
        kind: PackKind,
    ) -> Result<PackEntry, SaveError> {
        let session = || manifest.session_id.clone();
        let entry = entry(&manifest.session_id, PackName::fresh(), files, kind)?;
        let keys = key::pack(&self.tenant, manifest, &entry).map_err(|source| SaveError::Key {
            session: session(),
            source,
        })?;
        let put = |key, file: &std::path::PathBuf| {
            let body = file.clone().into();
            self.storage.put(key, body, Precondition::None)
        };
        let puts = futures::future::try_join(put(&keys.pack, &files.pack), put(&keys.index, &files.index));
        puts.await.map_err(|source| SaveError::Storage {
            session: session(),
            source,
        })?;
        Ok(entry)
    }

    /// Downloads packs into a folder, some at the same time, and checks them.
    pub async fn download_packs(
        &self,
        manifest: &Manifest,
        entries: impl Iterator<Item = &PackEntry>,
        into: &Path,
    ) -> Result<Vec<PackFiles>, LoadError> {
        // Files are named by their content, so what is listed twice is downloaded once.
        let entries: BTreeMap<ObjectId, &PackEntry> = entries.map(|entry| (entry.hash, entry)).collect();
        let downloads: Vec<_> = entries
            .into_values()
            .map(|entry| self.download_pack(manifest, entry, into).boxed())
            .collect();
        stream::iter(downloads)
            .buffered(DOWNLOADS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Downloads one pack and its index into a folder, and checks them against their checksums and the limits of what packs may hold.
    pub async fn download_pack(
        &self,
        manifest: &Manifest,
        entry: &PackEntry,
        into: &Path,
    ) -> Result<PackFiles, LoadError> {
        let keys = self.pack_keys(manifest, entry)?;
        let files = PackFiles {
            pack: into.join(format!("pack-{}.pack", entry.hash)),
            index: into.join(format!("pack-{}.idx", entry.hash)),
            hash: entry.hash.to_string(),
            objects: entry.objects,
            pack_bytes: entry.pack_bytes,
            index_bytes: entry.index_bytes,
        };
        let pack = self.storage.download(&keys.pack, &files.pack, entry.pack_bytes);
        let index = self
            .storage
            .download(&keys.index, &files.index, entry.index_bytes);
        futures::future::try_join(pack, index)
            .await
            .map_err(|error| read_error(manifest, entry, error))?;
        let (checked, hash, limits) = (files.clone(), entry.hash, self.pack_limits);
        let verdict = mayfly_telemetry::task::blocking(move || {
            verify(&checked, &hash)?;
            check_limits(&checked, &hash, &limits)
        });
        let verdict = verdict.await;
        verdict.map_err(|reason| damaged(manifest, Some(entry), reason))?;
        Ok(files)
    }

    pub(crate) fn pack_keys(&self, manifest: &Manifest, entry: &PackEntry) -> Result<PackKeys, LoadError> {
        key::pack(&self.tenant, manifest, entry).map_err(|source| LoadError::Key {
            session: manifest.session_id.clone(),
            source,
        })
    }
}

/// A missing or overlong object is damage: the manifest names only what was uploaded whole.
pub(crate) fn read_error(manifest: &Manifest, entry: &PackEntry, error: StorageError) -> LoadError {
    match error {
        StorageError::NotFound { .. } | StorageError::TooLarge { .. } => {
            damaged(manifest, Some(entry), error.to_string())
        }
        source => LoadError::Storage {
            session: manifest.session_id.clone(),
            source,
        },
    }
}

pub(crate) fn damaged(manifest: &Manifest, entry: Option<&PackEntry>, reason: String) -> LoadError {
    LoadError::Damaged {
        session: manifest.session_id.clone(),
        reason,
        pack: entry.map(|entry| entry.hash),
    }
}

/// Checks a downloaded pack and its index against their own checksums and against the pack's name.
///
/// Source: gitformat-pack(5): a pack ends with the SHA-1 of all before it; an index ends with that of its pack and its own.
fn verify(files: &PackFiles, hash: &ObjectId) -> Result<(), String> {
    let pack =
        Sealed::read(&files.pack).map_err(|error| format!("pack {hash} cannot be read back ({error})"))?;
    let index =
        Sealed::read(&files.index).map_err(|error| format!("index {hash} cannot be read back ({error})"))?;
    if !pack.is_sound() || pack.seal != *hash.as_bytes() {
        return Err(format!("the content of pack {hash} does not match its checksum"));
    }
    if !index.is_sound() || index.before_seal != *hash.as_bytes() {
        return Err(format!(
            "the content of the index of pack {hash} does not match its checksum"
        ));
    }
    Ok(())
}

/// Checks that nothing in a pack is larger, or deeper, than what is taken from a remote: whoever writes to the storage can forge all checksums.
fn check_limits(files: &PackFiles, hash: &ObjectId, limits: &PackLimits) -> Result<(), String> {
    files.check_limits(limits).map_err(|error| {
        let mut text = format!("pack {hash} cannot be one that was stored: {error}");
        if let Some(cause) = std::error::Error::source(&error) {
            text = format!("{text}: {cause}");
        }
        text
    })
}

/// A file that ends with the SHA-1 of all before it.
struct Sealed {
    /// The SHA-1 of all but the last 20 bytes.
    digest: [u8; 20],
    /// The last 20 bytes, and those before them.
    seal: [u8; 20],
    before_seal: [u8; 20],
}

impl Sealed {
    /// Reads a file piece by piece; one of fewer than 40 bytes is an error.
    fn read(path: &Path) -> std::io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let body = file.metadata()?.len().saturating_sub(20);
        let mut hasher = Sha1::new();
        let mut piece = vec![0; 128 * 1024];
        let mut left = body;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            file.read_exact(&mut piece[..wanted])?;
            hasher.update(&piece[..wanted]);
            left -= wanted as u64;
        }
        let (mut seal, mut before_seal) = ([0; 20], [0; 20]);
        file.seek(SeekFrom::End(-40))?;
        file.read_exact(&mut before_seal)?;
        file.read_exact(&mut seal)?;
        Ok(Self {
            digest: hasher.finalize().into(),
            seal,
            before_seal,
        })
    }

    fn is_sound(&self) -> bool {
        self.digest == self.seal
    }
}
