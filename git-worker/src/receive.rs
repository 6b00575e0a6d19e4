//! Bringing a branch of the remote into a session: fetch what is new, check it, and upload it.

use std::num::NonZeroU32;
use std::sync::Arc;

use mayfly_git::fetch::{self, FetchProgress, FetchRequest, Fetched};
use mayfly_git::remote::{Credential, Remote};
use mayfly_protocol::{BranchName, CommitId, Progress, Stage, TreeId, Unit};
use mayfly_session::{KnownRepository, Manifest, PackEntry, PackKind, SessionStore};
use mayfly_worker::{JobContext, ProgressSink};

use crate::GitWorker;
use crate::failure::JobError;
use crate::workspace::Workspace;

/// What is wanted of the remote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) branch: Option<BranchName>,
    pub(crate) commit: Option<CommitId>,
    pub(crate) depth: Option<NonZeroU32>,
    /// What other sessions know of the repository: its packs are listed in the manifest.
    pub(crate) known: Option<KnownRepository>,
}

/// What came of it.
pub(crate) struct Received {
    pub(crate) branch: BranchName,
    pub(crate) tip: Tip,
    pub(crate) objects: u32,
    pub(crate) received_bytes: u64,
}

/// The commit that the remote's branch stands at, or that was asked for.
pub(crate) enum Tip {
    /// There is no commit yet.
    Unborn,
    /// The session stands there already.
    Head,
    /// Another one than the session's.
    Other(Commit),
}

/// A commit whose trees have been checked.
#[derive(Clone)]
pub(crate) struct Commit {
    pub(crate) id: CommitId,
    pub(crate) tree: TreeId,
    /// The pack of the commit and its trees, uploaded and not yet listed.
    pub(crate) trees: PackEntry,
}

/// Fetches a branch. The manifest then lists what came, the remote's branch and the shallow boundary; its head, trees and
/// worktree stay as they are. The workspace gets the session's small packs if there is anything to compare with them.
pub(crate) async fn receive(
    worker: &GitWorker,
    workspace: &Workspace,
    sessions: &SessionStore,
    manifest: &mut Manifest,
    (remote, wanted): (&Remote, Wanted),
    (context, stage): (&JobContext, Stage),
) -> Result<Received, JobError> {
    let folder = workspace.subfolder("fetch").await?;
    let request = FetchRequest {
        branch: wanted.branch.clone(),
        commit: wanted.commit,
        depth: wanted.depth,
        have: manifest.known_tips(),
        shallow: manifest.shallow.clone(),
    };
    let (client, limits) = (&worker.client, &worker.config.limits.transfer);
    let progress = report(context.events.clone(), stage, remote.credential.clone());
    let fetched = fetch::fetch(
        client,
        remote,
        &request,
        &folder,
        limits,
        progress,
        &context.cancel,
    )
    .await?;
    let known = wanted.known.as_ref();
    let tip = match fetched.tip {
        None => Tip::Unborn,
        Some(commit) if manifest.head == Some(commit) => Tip::Head,
        Some(commit) => match known
            .and_then(|known| known.tip(commit))
            .filter(|_| fetched.pack.is_none())
        {
            Some(tip) => Tip::Other(Commit {
                id: commit,
                tree: tip.tree,
                trees: tip.trees.clone(),
            }),
            None => {
                Tip::Other(take_in(worker, workspace, sessions, manifest, (&fetched, commit), known).await?)
            }
        },
    };
    if let Some(pack) = &fetched.pack {
        let entry = sessions.upload_pack(manifest, pack, PackKind::Base).await?;
        manifest.add_pack(entry);
    }
    note_remote(manifest, &fetched);
    Ok(Received {
        branch: fetched.branch,
        tip,
        objects: fetched.pack.as_ref().map_or(0, |pack| pack.objects),
        received_bytes: fetched.received_bytes,
    })
}

/// Checks the trees of a commit, and uploads a small pack of the commit and its trees.
async fn take_in(
    worker: &GitWorker,
    workspace: &Workspace,
    sessions: &SessionStore,
    manifest: &Manifest,
    (fetched, commit): (&Fetched, CommitId),
    known: Option<&KnownRepository>,
) -> Result<Commit, JobError> {
    workspace.add_small_packs(manifest).await?;
    if let Some(tip) = known.and_then(|known| {
        known
            .tips
            .get(&fetched.branch.to_ref())
            .or(known.tips.values().next())
    }) {
        workspace.add_stored_pack(manifest, &tip.trees).await?;
    }
    if let Some(pack) = fetched.pack.clone() {
        workspace.add_pack(pack).await?;
    }
    let tree = workspace.require_received_trees(manifest, commit).await?;
    let limits = worker.config.limits.tree.clone();
    workspace
        .with(move |scratch| scratch.check_tree(&tree, &limits))
        .await?;
    if manifest.packs.is_empty() {
        workspace.require_received_files(tree).await?;
    }
    let folder = workspace.subfolder("trees").await?;
    let trees = workspace
        .with(move |scratch| scratch.write_trees_pack(&commit, &folder))
        .await?;
    Ok(Commit {
        id: commit,
        tree,
        trees: sessions.upload_pack(manifest, &trees, PackKind::Trees).await?,
    })
}

/// Writes down where the fetched branch stands at the remote, and where history ends here.
fn note_remote(manifest: &mut Manifest, fetched: &Fetched) {
    if let Some(tip) = fetched.tip {
        let full = fetched.branch.to_ref();
        let at_remote = fetched.refs.branch(&fetched.branch);
        manifest.refs.insert(full, at_remote.unwrap_or(tip));
    }
    manifest.shallow.clone_from(&fetched.shallow);
}

fn report(
    events: ProgressSink,
    stage: Stage,
    credential: Option<Credential>,
) -> Arc<dyn Fn(FetchProgress) + Send + Sync> {
    Arc::new(move |progress| match progress {
        FetchProgress::Receiving {
            objects,
            total,
            bytes,
        } => {
            let message = format!("Receiving objects ({})", in_units(bytes));
            events.progress(
                stage,
                message,
                Progress {
                    done: objects,
                    total,
                    unit: Unit::Objects,
                },
            );
        }
        FetchProgress::Resolving { done, total } => {
            events.progress(
                stage,
                "Resolving deltas",
                Progress {
                    done,
                    total: Some(total),
                    unit: Unit::Objects,
                },
            );
        }
        FetchProgress::Remote(words) => {
            let words = credential
                .as_ref()
                .map_or_else(|| words.clone(), |it| it.hide_in(&words));
            let message = format!("remote: {words}");
            events.progress(
                stage,
                message,
                Progress {
                    done: 0,
                    total: None,
                    unit: Unit::Objects,
                },
            );
        }
    })
}

/// Bytes for people, in powers of 1024.
pub(crate) fn in_units(bytes: u64) -> String {
    const KIB: u64 = 1024;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..0x10_0000 => format!("{} KiB", bytes / KIB),
        _ => format!(
            "{}.{} MiB",
            bytes / (KIB * KIB),
            bytes % (KIB * KIB) * 10 / (KIB * KIB)
        ),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_600_000, "1.5 MiB"),
        ] {
            assert_eq!(super::in_units(bytes), text);
        }
    }
}
