//! What the remote lacks, as a pack: with what no small pack holds brought here before.

use bytes::Bytes;
use mayfly_protocol::{CommitId, ObjectId};
use mayfly_session::{Manifest, PackEntry, PackKind};

use super::{MAX_TREE_BYTES, Workspace};
use crate::failure::JobError;

/// A pack of which so large a part is to be sent is brought whole: to read that object by object takes longer, and has to fit the memory.
const WHOLE_FROM_PART: usize = 8;

impl Workspace {
    /// The pack of what the remote lacks to have `commit`, given the newest ancestor that it has.
    pub(crate) async fn pack_for_remote(
        &self,
        manifest: &Manifest,
        commit: CommitId,
    ) -> Result<Bytes, JobError> {
        let ids = self.objects_to_send(manifest, commit).await?;
        let pack = self.with(move |scratch| scratch.pack_objects(&ids));
        Ok(pack.await?.into())
    }

    /// The objects that the remote lacks to have `commit`; all of them are here then.
    pub(crate) async fn objects_to_send(
        &self,
        manifest: &Manifest,
        commit: CommitId,
    ) -> Result<Vec<ObjectId>, JobError> {
        let known: Vec<CommitId> = manifest.upstream.into_iter().collect();
        let mut before = Vec::new();
        loop {
            let boundary = known.clone();
            let missing = self.with(move |scratch| scratch.missing_to_send(&commit, &boundary));
            let missing = missing.await?;
            // What no pack has may be what history was cut off at, and is not asked for again.
            if missing.is_empty() || missing == before {
                break;
            }
            self.bring_to_send(manifest, &missing).await?;
            before = missing;
        }
        self.with(move |scratch| scratch.objects_to_send(&commit, &known))
            .await
    }

    async fn bring_to_send(&self, manifest: &Manifest, ids: &[ObjectId]) -> Result<(), JobError> {
        let large =
            |entry: &&PackEntry| entry.kind == PackKind::Job && !entry.is_read_whole(self.whole_bytes);
        for entry in manifest.listed_packs().filter(large) {
            let absent = self.packed.absent(manifest, entry, ids).await?.len();
            let part = (ids.len() - absent).saturating_mul(WHOLE_FROM_PART);
            if absent < ids.len() && part >= entry.objects as usize {
                self.bring_packs(manifest, std::slice::from_ref(entry)).await?;
            }
        }
        self.read_missing(manifest, ids.to_vec(), MAX_TREE_BYTES)
            .await
            .map(drop)
    }
}
