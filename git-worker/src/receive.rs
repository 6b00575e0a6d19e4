//! Bringing a branch of the remote into a session: fetch what is new and upload it while it arrives, then check it.
//!
//! The upload becomes an object when the check is passed; a failed or cancelled fetch discards it. The pack is in the job's scratch folder as well
//! until the job ends: deltas are resolved from there, and what the check reads is read there.

mod fetching;

use std::sync::Arc;

use mayfly_git::fetch::{FetchProgress, Fetched};
use mayfly_git::remote::{Credential, Remote};
use mayfly_protocol::request::History;
use mayfly_protocol::{BranchName, CommitId, Progress, Stage, TreeId, Unit};
use mayfly_session::{Brought, KnownRepository, Manifest, PackEntry, PackKind, SessionStore};
use mayfly_worker::{JobContext, ProgressSink};

use crate::GitWorker;
use crate::failure::JobError;
use crate::workspace::Workspace;
use fetching::{Arrived, Fetching, is_new};

/// What is wanted of the remote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) branch: Option<BranchName>,
    pub(crate) commit: Option<CommitId>,
    pub(crate) history: History,
}

/// What came of it.
pub(crate) struct Received {
    pub(crate) branch: BranchName,
    pub(crate) tip: Tip,
    pub(crate) objects: u32,
    pub(crate) received_bytes: u64,
    pub(crate) brought: Brought,
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
///
/// What the tenant's other sessions brought of the repository need not come again: its packs are listed too. The remote is asked
/// with the caller's token before any of that is used, and what the session then stands on is reached from a ref that it showed.
pub(crate) async fn receive(
    worker: &GitWorker,
    workspace: &Workspace,
    sessions: &SessionStore,
    manifest: &mut Manifest,
    (remote, wanted): (&Remote, Wanted),
    (context, stage): (&JobContext, Stage),
) -> Result<Received, JobError> {
    let fetch = Fetching {
        worker,
        sessions,
        remote,
        progress: report(context.events.clone(), stage, remote.credential.clone()),
        context,
    };
    let folder = workspace.subfolder("fetch").await?;
    let known = known_besides(sessions, manifest, &wanted).await;
    let (arrived, known) = fetch.branch(manifest, &wanted, known, &folder).await?;
    let Arrived {
        fetched,
        incoming,
        have,
    } = arrived;
    let site = (worker, workspace, sessions);
    let tip = find_tip(site, manifest, &fetched, known.as_ref()).await?;
    let mut brought = Brought {
        have,
        ..Brought::default()
    };
    if let Some(pack) = &fetched.pack {
        brought.packs.push(incoming.complete(pack).await?);
    }
    note_remote(manifest, &fetched);
    let mut received = Received {
        branch: fetched.branch,
        tip,
        objects: fetched.pack.as_ref().map_or(0, |pack| pack.objects),
        received_bytes: fetched.received_bytes,
        brought,
    };
    if let Some(deeper) = fetch.deeper(manifest, &wanted, &received.branch, &folder).await? {
        let Arrived {
            fetched, incoming, ..
        } = deeper;
        received.objects += fetched.pack.as_ref().map_or(0, |pack| pack.objects);
        received.received_bytes += fetched.received_bytes;
        received.brought.have = None;
        if let Some(pack) = &fetched.pack {
            received.brought.packs.push(incoming.complete(pack).await?);
        }
    }
    for pack in &received.brought.packs {
        manifest.add_pack(pack.clone());
    }
    Ok(received)
}

/// Where the session may stand now; what other sessions know is listed where it is needed for that.
async fn find_tip(
    (worker, workspace, sessions): (&GitWorker, &Workspace, &SessionStore),
    manifest: &mut Manifest,
    fetched: &Fetched,
    known: Option<&KnownRepository>,
) -> Result<Tip, JobError> {
    let commit = match fetched.tip {
        None => return Ok(Tip::Unborn),
        Some(commit) if manifest.head == Some(commit) => return Ok(Tip::Head),
        Some(commit) => commit,
    };
    if let Some(known) = known {
        list_known(manifest, known, fetched);
    }
    let seen = known.and_then(|known| known.tip(commit));
    if let Some(tip) = seen.filter(|_| fetched.pack.is_none()) {
        if manifest.head.is_some() {
            // There is something to compare it with, and perhaps to merge.
            workspace.add_packs_of_trees(manifest).await?;
            workspace
                .bring_packs(manifest, std::slice::from_ref(&tip.trees))
                .await?;
        }
        return Ok(Tip::Other(Commit {
            id: commit,
            tree: tip.tree,
            trees: tip.trees.clone(),
        }));
    }
    let fetched = (fetched, commit);
    let taken_in = take_in(worker, workspace, sessions, manifest, fetched, known).await?;
    Ok(Tip::Other(taken_in))
}

/// What other sessions know of the repository that this one does not. A fetch with a boundary uses none of it: what they have is whole.
async fn known_besides(
    sessions: &SessionStore,
    manifest: &Manifest,
    wanted: &Wanted,
) -> Option<KnownRepository> {
    if matches!(wanted.history, History::Depth(_)) && is_new(manifest) || !manifest.shallow.is_empty() {
        return None;
    }
    let own = manifest.known_tips();
    let known = sessions.known_repository(&manifest.repo_url).await?;
    let has_more = known.tips.values().any(|tip| !own.contains(&tip.commit));
    has_more.then_some(known)
}

/// Lists the known packs, in place of those that were folded into them, and the known branches as far as the remote shows them to this caller.
fn list_known(manifest: &mut Manifest, known: &KnownRepository, fetched: &Fetched) {
    known.list_in(manifest);
    let shown = known
        .tips
        .iter()
        .filter(|(name, _)| fetched.refs.refs.contains_key(*name));
    for (name, tip) in shown {
        manifest.refs.entry(name.clone()).or_insert(tip.commit);
    }
}

/// Checks the trees of a commit and that every file of them is there, and uploads a small pack of the commit and its trees.
async fn take_in(
    worker: &GitWorker,
    workspace: &Workspace,
    sessions: &SessionStore,
    manifest: &Manifest,
    (fetched, commit): (&Fetched, CommitId),
    known: Option<&KnownRepository>,
) -> Result<Commit, JobError> {
    workspace.add_packs_of_trees(manifest).await?;
    let mut complete = Vec::new();
    if let Some(tip) = known.and_then(|known| {
        known
            .tips
            .get(&fetched.branch.to_ref())
            .or(known.tips.values().next())
    }) {
        workspace
            .bring_packs(manifest, std::slice::from_ref(&tip.trees))
            .await?;
        complete.push(tip.tree);
    }
    if let Some(head) = manifest.head {
        complete.push(workspace.require_trees(manifest, head).await?);
    }
    if let Some(pack) = fetched.pack.clone() {
        workspace.add_received_pack(pack, commit).await?;
    }
    let tree = workspace.require_received_trees(manifest, commit).await?;
    let limits = worker.config.limits.tree.clone();
    workspace
        .with(move |scratch| scratch.check_tree(&tree, &limits))
        .await?;
    workspace.require_received_files(manifest, tree, complete).await?;
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

pub(crate) fn report(
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
