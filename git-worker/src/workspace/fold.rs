//! What a job made goes to the storage: as a pack of its own, or folded into one with packs of jobs before it. Packs of pulls are folded too.

use mayfly_git::pack::PackFiles;
use mayfly_git::scratch::{Joined, Standing};
use mayfly_protocol::{CommitId, ErrorCode};
use mayfly_session::{FoldedPacks, Manifest, PackEntry, PackKind, packs_to_fold, received_to_fold};

use super::Workspace;
use crate::failure::JobError;

/// Bytes that the packs of pulls which are folded at once may unpack to.
const MAX_UNPACKED_BYTES: u64 = 256 * 1024 * 1024;

impl Workspace {
    /// Uploads what the job made so far, if anything; where that pays, as one with what earlier jobs made.
    ///
    /// The manifest has the head and the workspace that are going to be saved. `upstream` is what the remote has of it then.
    pub(crate) async fn upload_new_objects(
        &self,
        manifest: &mut Manifest,
        upstream: Option<CommitId>,
    ) -> Result<(), JobError> {
        let folder = self.subfolder("new-pack").await?;
        let Some(made) = self.with(move |scratch| scratch.write_new_pack(&folder)).await? else {
            return Ok(());
        };
        let folded: Vec<PackEntry> = packs_to_fold(&manifest.packs, made.pack_bytes, self.whole_bytes)
            .into_iter()
            .cloned()
            .collect();
        if folded.is_empty() {
            let entry = self.sessions.upload_pack(manifest, &made, PackKind::Job).await?;
            manifest.add_pack(entry);
            return Ok(());
        }
        self.fold(manifest, &folded, upstream).await
    }

    async fn fold(
        &self,
        manifest: &mut Manifest,
        folded: &[PackEntry],
        upstream: Option<CommitId>,
    ) -> Result<(), JobError> {
        // What is damaged of the past stays as it is: the job does not need it, and whoever reads it has it mended.
        let small = folded.iter().filter(|entry| entry.kind == PackKind::Job).cloned();
        let small: Vec<PackEntry> = small.collect();
        let (folded, packs) = match self.bring_packs(manifest, folded).await {
            Ok(packs) => (folded, packs),
            Err(error) if error.code() == ErrorCode::SessionDamaged => {
                tracing::warn!(session.id = %manifest.session_id, %error, "packs are folded without those of the past");
                (&small[..], self.bring_packs(manifest, &small).await?)
            }
            Err(error) => return Err(error),
        };
        let standing = Standing {
            head: manifest.head,
            upstream,
            worktree: manifest.worktree,
        };
        let into = self.subfolder("folded-packs").await?;
        let written = self
            .with(move |scratch| scratch.fold(&packs, &standing, &into))
            .await?;
        let (past, next) = futures::future::try_join(
            self.upload(manifest, written.past, PackKind::Past),
            self.upload(manifest, written.next, PackKind::Job),
        )
        .await?;
        tracing::debug!(session.id = %manifest.session_id, packs = folded.len(), "small packs are folded");
        manifest.replace_packs(folded, past.into_iter().chain(next));
        Ok(())
    }

    /// Folds the small packs of the remote, where that pays: the manifest lists one in place of several.
    ///
    /// What other sessions have folded is taken up before, which may be enough. The job needs none of it: what is damaged stays as it is, for
    /// whoever reads it to have it mended.
    pub(crate) async fn fold_received(
        &self,
        manifest: &mut Manifest,
    ) -> Result<Option<FoldedPacks>, JobError> {
        if received_to_fold(&manifest.packs, self.whole_bytes).is_empty() {
            return Ok(None);
        }
        if manifest.has_all_history()
            && let Some(known) = self.sessions.known_repository(&manifest.repo_url).await
        {
            known.list_in(manifest);
        }
        let few = received_to_fold(&manifest.packs, self.whole_bytes);
        let few: Vec<PackEntry> = few.into_iter().cloned().collect();
        let packs = self.bring_whole(manifest, few.clone()).await?;
        let into = self.subfolder("folded-packs").await?;
        let joined = self.with(move |scratch| scratch.join(&packs, MAX_UNPACKED_BYTES, &into));
        let Joined { of, into } = match joined.await {
            Ok(Some(joined)) => joined,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::warn!(session.id = %manifest.session_id, %error, "packs of pulls are not folded");
                return Ok(None);
            }
        };
        let of = few
            .into_iter()
            .filter(|entry| of.contains(&entry.hash.to_string()));
        let (holder, mut of): (Vec<_>, Vec<_>) = of.partition(|entry| entry.hash.to_string() == into.hash);
        let mut holder = holder.into_iter();
        let into = match holder.next() {
            Some(entry) => entry,
            None => self.sessions.upload_pack(manifest, &into, PackKind::Base).await?,
        };
        of.extend(holder);
        tracing::debug!(session.id = %manifest.session_id, packs = of.len(), "packs of pulls are folded");
        manifest.replace_packs(&of, [into.clone()]);
        Ok(Some(FoldedPacks { of, into }))
    }

    /// Brings those of the packs here that are not damaged.
    async fn bring_whole(
        &self,
        manifest: &Manifest,
        mut entries: Vec<PackEntry>,
    ) -> Result<Vec<PackFiles>, JobError> {
        loop {
            let error = match self.bring_packs(manifest, &entries).await {
                Ok(packs) => return Ok(packs),
                Err(error) => error,
            };
            let before = entries.len();
            entries.retain(|entry| Some(entry.hash) != error.damaged_pack());
            if entries.len() == before {
                return Err(error);
            }
            tracing::warn!(session.id = %manifest.session_id, %error, "packs of pulls are folded without one");
        }
    }

    async fn upload(
        &self,
        manifest: &Manifest,
        files: Option<PackFiles>,
        kind: PackKind,
    ) -> Result<Option<PackEntry>, JobError> {
        match files {
            None => Ok(None),
            Some(files) => Ok(Some(self.sessions.upload_pack(manifest, &files, kind).await?)),
        }
    }

    /// Brings packs here whole, as far as they are not here already.
    pub(crate) async fn bring_packs(
        &self,
        manifest: &Manifest,
        entries: &[PackEntry],
    ) -> Result<Vec<PackFiles>, JobError> {
        let folder = self.subfolder("stored-packs").await?;
        let lacking = entries.iter().filter(|entry| self.pack_here(entry).is_none());
        let downloaded = self.sessions.download_packs(manifest, lacking, &folder).await?;
        for pack in downloaded {
            self.add_pack(pack).await?;
        }
        Ok(entries.iter().filter_map(|entry| self.pack_here(entry)).collect())
    }
}
