//! How much of a branch's history is fetched: what the caller asks for, or what the service chooses.
//!
//! What a clone of all history would be, no remote says before it is begun. The pack's header then counts its objects, and its bytes
//! are counted while they arrive; when either passes the limit the transfer is left, and a shallow one made instead.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use mayfly_git::fetch::{self, Destination, FetchError, FetchProgress, FetchRequest, Fetched, WHOLE_HISTORY};
use mayfly_git::remote::{Remote, TransferLimits};
use mayfly_protocol::request::History;
use mayfly_protocol::{BranchName, CommitId};
use mayfly_session::{IncomingPack, KnownRepository, Manifest, SessionStore};
use mayfly_worker::JobContext;
use serde_json::json;

use super::Wanted;
use crate::GitWorker;
use crate::failure::JobError;

/// The depth that the service chooses where all of the history is too much.
const SHALLOW_DEPTH: NonZeroU32 = NonZeroU32::MIN;

/// Fetches from one remote for one job.
pub(super) struct Fetching<'a> {
    pub(super) worker: &'a GitWorker,
    pub(super) sessions: &'a SessionStore,
    pub(super) remote: &'a Remote,
    pub(super) progress: Arc<dyn Fn(FetchProgress) + Send + Sync>,
    pub(super) context: &'a JobContext,
}

/// What a fetch brought, and the copy of its pack that is on its way to the storage.
pub(super) struct Arrived {
    pub(super) fetched: Fetched,
    pub(super) incoming: IncomingPack,
    /// The commits that the remote was told of, where all that they reach is here or in the storage.
    pub(super) have: Option<Vec<CommitId>>,
}

/// Whether nothing has been fetched into the session yet.
pub(super) fn is_new(manifest: &Manifest) -> bool {
    manifest.head.is_none() && manifest.packs.is_empty()
}

impl Fetching<'_> {
    /// Fetches the branch, and writes into the manifest how deep and why. What other sessions know comes back as far as it was used.
    pub(super) async fn branch(
        &self,
        manifest: &mut Manifest,
        wanted: &Wanted,
        known: Option<KnownRepository>,
        into: &Path,
    ) -> Result<(Arrived, Option<KnownRepository>), JobError> {
        let limits = &self.worker.config.limits.transfer;
        let mut request = request(manifest, wanted, known.as_ref());
        let is_new = is_new(manifest);
        let (incoming, instead) = (self.incoming(manifest)?, self.incoming(manifest)?);
        let mut decide = |depth: Option<NonZeroU32>, reason: String| {
            manifest.fetched.depth = depth.map(NonZeroU32::get);
            manifest.fetched.reason = reason;
        };
        match wanted.history {
            History::Depth(depth) if is_new => {
                request.depth = Some(depth);
                decide(Some(depth), "the caller's `depth`".to_owned());
            }
            History::Whole if is_new => decide(None, "the caller's `unshallow`".to_owned()),
            History::Whole if !request.shallow.is_empty() => {
                request.depth = Some(WHOLE_HISTORY);
                decide(None, "the caller's `unshallow`".to_owned());
            }
            // A commit can only be found on its branch where its history is there.
            History::Chosen if is_new && wanted.commit.is_none() => {
                let within = self.within_full_clone();
                let error = match self.fetch(&request, into, &within, incoming).await {
                    Ok(arrived) => {
                        decide(None, self.fits());
                        return Ok((arrived, known));
                    }
                    Err(error) => error,
                };
                let reason = too_large(&error).ok_or(error)?;
                self.announce(&reason);
                decide(Some(SHALLOW_DEPTH), reason);
                request.depth = Some(SHALLOW_DEPTH);
                request.have.clear();
                return Ok((self.fetch(&request, into, limits, instead).await?, None));
            }
            History::Chosen | History::Depth(_) | History::Whole => {}
        }
        Ok((self.fetch(&request, into, limits, incoming).await?, known))
    }

    /// Brings a shallow session the history down to the depth that is asked for, if that is deeper than what it has.
    ///
    /// The tip is here already. To ask for both at once would leave a gap where the branch has moved on by more than the depth.
    pub(super) async fn deeper(
        &self,
        manifest: &mut Manifest,
        wanted: &Wanted,
        branch: &BranchName,
        into: &Path,
    ) -> Result<Option<Arrived>, JobError> {
        let History::Depth(depth) = wanted.history else {
            return Ok(None);
        };
        if manifest.shallow.is_empty() || manifest.fetched.depth.is_none_or(|has| has >= depth.get()) {
            return Ok(None);
        }
        let request = FetchRequest {
            branch: Some(branch.clone()),
            commit: None,
            depth: Some(depth),
            have: manifest.known_tips(),
            shallow: manifest.shallow.clone(),
        };
        let limits = &self.worker.config.limits.transfer;
        let incoming = self.incoming(manifest)?;
        let arrived = self.fetch(&request, into, limits, incoming).await?;
        let fetched = &arrived.fetched;
        let is_deeper = manifest
            .shallow
            .iter()
            .any(|commit| !fetched.shallow.contains(commit));
        if !is_deeper {
            return Ok(None);
        }
        manifest.shallow.clone_from(&fetched.shallow);
        manifest.fetched.depth = (!fetched.shallow.is_empty()).then_some(depth.get());
        "the caller's `depth`".clone_into(&mut manifest.fetched.reason);
        Ok(Some(arrived))
    }

    async fn fetch(
        &self,
        request: &FetchRequest,
        into: &Path,
        limits: &TransferLimits,
        mut incoming: IncomingPack,
    ) -> Result<Arrived, FetchError> {
        let (client, progress) = (&self.worker.client, Arc::clone(&self.progress));
        let into = Destination {
            folder: into,
            copy: Some(&mut incoming),
        };
        let cancel = &self.context.cancel;
        let fetched = fetch::fetch(client, self.remote, request, into, limits, progress, cancel).await?;
        let is_whole = request.depth.is_none() && request.shallow.is_empty();
        Ok(Arrived {
            fetched,
            incoming,
            have: is_whole.then(|| request.have.clone()),
        })
    }

    /// A place for the pack of one fetch; nothing is there until bytes come, and what came is discarded with a transfer that is left.
    fn incoming(&self, manifest: &Manifest) -> Result<IncomingPack, JobError> {
        Ok(self.sessions.incoming_pack(manifest)?)
    }

    fn within_full_clone(&self) -> TransferLimits {
        let limits = &self.worker.config.limits;
        TransferLimits {
            max_objects: limits.transfer.max_objects.min(limits.full_clone.max_objects),
            max_pack_bytes: limits.transfer.max_pack_bytes.min(limits.full_clone.max_bytes),
            ..limits.transfer.clone()
        }
    }

    fn fits(&self) -> String {
        let limits = self.within_full_clone();
        format!(
            "all history is within {} objects and {} bytes",
            limits.max_objects, limits.max_pack_bytes
        )
    }

    fn announce(&self, reason: &str) {
        let message = format!("{reason}; fetching depth {SHALLOW_DEPTH} instead");
        let detail = json!({"depth": SHALLOW_DEPTH, "fetchedBecause": reason});
        self.context.events.note(message, detail);
    }
}

fn request(manifest: &Manifest, wanted: &Wanted, known: Option<&KnownRepository>) -> FetchRequest {
    let mut have = manifest.known_tips();
    let tips = known.iter().flat_map(|known| known.tips.values());
    have.extend(tips.map(|tip| tip.commit));
    have.sort_unstable();
    have.dedup();
    FetchRequest {
        branch: wanted.branch.clone(),
        commit: wanted.commit,
        depth: None,
        have,
        shallow: manifest.shallow.clone(),
    }
}

/// Why a transfer of all history was left, if it was for its size.
fn too_large(error: &FetchError) -> Option<String> {
    match error {
        FetchError::TooManyObjects { objects, limit } => Some(format!(
            "all history has {objects} objects, more than the {limit} of a full clone"
        )),
        FetchError::RepositoryTooLarge { limit, what } => {
            Some(format!("all history has more than {limit} bytes{what}"))
        }
        _ => None,
    }
}
