//! Fetches one branch of a remote into a pack with its index, which is made while the pack arrives.
//!
//! No thin packs: the caller names commits that it knows, and their objects are not on this machine. No tags, no references to
//! other places (`bundle-uri`, `packfile-uris`): what a server offers of these is never asked for.
//! This module must not know sessions, nor read the objects that it fetches.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use mayfly_http::GuardedClient;
use mayfly_protocol::{BranchName, CommitId};
use tokio_util::sync::CancellationToken;

use crate::pack::PackFiles;
use crate::refs::{RemoteRefs, greet};
use crate::remote::exchange::{Exchange, Service};
use crate::remote::packet::Packets;
use crate::remote::{Remote, RemoteError, TransferLimits};

pub(crate) mod answer;
mod entries;
mod error;
mod goal;
pub(crate) mod index;
mod input;
pub(crate) mod progress;
mod receive;
mod request;
mod sink;

use answer::ShallowUpdate;
use goal::Goal;
use progress::Reporter;

pub use error::FetchError;
pub use progress::FetchProgress;
pub use sink::{PackSink, SinkError};

/// The depth that means all of the history, also beyond a boundary.
///
/// Source: `INFINITE_DEPTH` in git's `shallow.h`, as `git fetch --unshallow` sends it.
pub const WHOLE_HISTORY: NonZeroU32 = NonZeroU32::new(0x7fff_ffff).unwrap();

/// What to fetch, and what is known already.
#[derive(Debug, Clone, Default)]
pub struct FetchRequest {
    /// The branch; `None` for the one that the remote's HEAD names.
    pub branch: Option<BranchName>,
    /// A commit to fetch besides the branch; with a depth, instead of it. Whether it is on the branch is for the caller to check.
    pub commit: Option<CommitId>,
    /// How many commits deep; `None` for the whole history down to what is known, [`WHOLE_HISTORY`] for what is beyond a boundary too.
    pub depth: Option<NonZeroU32>,
    /// Commits that are known with all their history (down to `shallow`); their objects need not be on this machine.
    pub have: Vec<CommitId>,
    /// The commits whose parents are not known: the boundary that earlier fetches with a depth left.
    pub shallow: Vec<CommitId>,
}

/// Where the pack goes.
pub struct Destination<'a> {
    /// The folder that gets `pack-<hash>.pack` and `pack-<hash>.idx`: deltas are resolved from there.
    pub folder: &'a Path,
    /// What gets a copy of the pack while it arrives.
    pub copy: Option<&'a mut dyn PackSink>,
}

/// What a fetch brought.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The branch that was asked for, or the remote's own.
    pub branch: BranchName,
    /// The commit that was asked for, or that of the branch; `None` if the branch has none yet.
    pub tip: Option<CommitId>,
    /// The branches and tags of the remote.
    pub refs: RemoteRefs,
    /// The new objects; `None` if there are none.
    pub pack: Option<PackFiles>,
    /// The boundary after this fetch.
    pub shallow: Vec<CommitId>,
    /// Bytes of the answer that brought the pack.
    pub received_bytes: u64,
}

/// Fetches one branch; on any failure the folder gets nothing.
///
/// `progress` is called a few times a second at most.
pub async fn fetch(
    client: &GuardedClient,
    remote: &Remote,
    request: &FetchRequest,
    into: Destination<'_>,
    limits: &TransferLimits,
    progress: Arc<dyn Fn(FetchProgress) + Send + Sync>,
    cancel: &CancellationToken,
) -> Result<Fetched, FetchError> {
    let mut exchange = Exchange::new(client, remote, Service::UploadPack, limits, cancel);
    let greeting = greet(&mut exchange).await?;
    let goal = goal::decide(&greeting.refs, request)?;
    let mut fetched = Fetched {
        branch: goal.branch.clone(),
        tip: goal.tip,
        refs: greeting.refs.clone(),
        pack: None,
        shallow: boundary(request, &greeting.shallow, &ShallowUpdate::default()),
        received_bytes: 0,
    };
    if goal.wants.is_empty() {
        return Ok(fetched);
    }
    let body = request::encode(remote, &greeting, request, &goal)?;
    let mut packets = exchange.post(body, greeting.is_v2).await?.preparing();
    let update = read_head(&mut packets, greeting.is_v2, request)
        .await
        .map_err(|error| not_our_ref(error, request, &goal))?;
    fetched.shallow = boundary(request, &greeting.shallow, &update);
    let received = receive::receive(&mut packets, into, &exchange, Reporter::new(progress)).await;
    fetched.pack = received.map_err(|error| match error {
        FetchError::Remote(error) => not_our_ref(error, request, &goal),
        other => other,
    })?;
    fetched.received_bytes = packets.received();
    Ok(fetched)
}

async fn read_head(
    packets: &mut Packets,
    is_v2: bool,
    request: &FetchRequest,
) -> Result<ShallowUpdate, RemoteError> {
    if is_v2 {
        answer::read_v2(packets).await
    } else {
        answer::read_v0(packets, request.depth.is_some()).await
    }
}

/// A remote that does not have what is wanted says so in words only.
fn not_our_ref(error: RemoteError, request: &FetchRequest, goal: &Goal) -> FetchError {
    match (&error, request.commit) {
        (RemoteError::Said { words, .. }, Some(commit))
            if goal.wants.contains(&commit) && denies_want(words) =>
        {
            FetchError::CommitNotFound { commit }
        }
        _ => error.into(),
    }
}

/// Sources: upload-pack.c of git ("not our ref", "unadvertised object"), JGit ("want … not valid").
fn denies_want(words: &str) -> bool {
    ["not our ref", "unadvertised object", "not valid"]
        .iter()
        .any(|denial| words.contains(denial))
}

fn boundary(request: &FetchRequest, remote: &[CommitId], update: &ShallowUpdate) -> Vec<CommitId> {
    let mut boundary: Vec<CommitId> = request
        .shallow
        .iter()
        .chain(remote)
        .chain(&update.shallow)
        .filter(|commit| !update.unshallow.contains(commit))
        .copied()
        .collect();
    boundary.sort_unstable();
    boundary.dedup();
    boundary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> CommitId {
        CommitId::from_bytes([byte; 20])
    }

    #[test]
    fn the_boundary_is_what_was_plus_new_less_deepened() {
        let request = FetchRequest {
            shallow: vec![id(3), id(1)],
            ..FetchRequest::default()
        };
        let update = ShallowUpdate {
            shallow: vec![id(2), id(1)],
            unshallow: vec![id(3)],
        };
        assert_eq!(boundary(&request, &[id(4)], &update), [id(1), id(2), id(4)]);
    }
}
