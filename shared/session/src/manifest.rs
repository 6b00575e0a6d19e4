//! The manifest of a session: what it holds, as one small JSON document.

use std::collections::BTreeMap;

use mayfly_protocol::{
    BranchName, CommitId, Generation, JobId, JobKind, ObjectId, RepoUrl, SessionId, TreeId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::lfs::Lfs;
use crate::pack_name::PackName;

/// The version of the format that this build writes, and the only one that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The jobs that a manifest remembers; older ones are dropped.
pub(crate) const MAX_HISTORY: usize = 50;

/// What a session holds. Unknown fields are refused: to drop one on rewriting would lose what a newer build stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format.
    pub format_version: u32,
    /// The session.
    pub session_id: SessionId,
    /// Counts the saves by completed jobs.
    pub generation: Generation,
    /// The repository, without credentials.
    pub repo_url: RepoUrl,
    /// The branch that the session stands on.
    pub branch: BranchName,
    /// The commit that the session stands on; `None` in a repository without commits.
    pub head: Option<CommitId>,
    /// The newest commit in the head's history that the remote is known to have; the head itself when all of it is pushed.
    pub upstream: Option<CommitId>,
    /// The tree that is the workspace, with every uncommitted and untracked file.
    pub worktree: TreeId,
    /// The branches of the remote as last seen there, by full ref: the remote has these commits and all that they reach.
    pub refs: BTreeMap<String, CommitId>,
    /// The commits whose parents were left out by a shallow fetch.
    pub shallow: Vec<CommitId>,
    /// How the objects were fetched, and why so.
    pub fetched: Fetched,
    /// The packs that together hold what the session needs.
    pub packs: Vec<PackEntry>,
    /// What the session has of Git LFS; `None` in a session without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs: Option<Lfs>,
    /// What a job is about to do at the remote.
    pub intent: Option<Intent>,
    /// The last jobs, the newest at the end.
    pub history: Vec<HistoryEntry>,
    /// What the newest of them answered: an attempt at a job that was done before, and whose worker was lost, answers the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_result: Option<JobResult>,
    /// The repeated attempt that works on the session: an earlier one that was only slow cannot save any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// When the session was made.
    #[serde(with = "mayfly_protocol::event::timestamp")]
    pub created_at: OffsetDateTime,
    /// When a job last used it.
    #[serde(with = "mayfly_protocol::event::timestamp")]
    pub updated_at: OffsetDateTime,
}

/// How the objects were fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fetched {
    /// The depth of history; `None` for all of it.
    pub depth: Option<u32>,
    /// The object filter, in the words of `git clone --filter`; `None` for every object.
    pub filter: Option<String>,
    /// Who or what decided so.
    pub reason: String,
}

/// One pack and its index in object storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackEntry {
    /// The checksum at the end of the pack: 40 hexadecimal digits.
    pub hash: ObjectId,
    /// The name that it was stored under, by one job and once.
    pub name: PackName,
    /// What the pack is for.
    pub kind: PackKind,
    /// Whose it is.
    pub scope: PackScope,
    /// Objects in it.
    pub objects: u32,
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
}

/// What a pack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackKind {
    /// As it came from the remote; may be large, and is read object by object.
    Base,
    /// The head commit and all its trees: small, read whole by most jobs; read object by object where it is not small.
    Trees,
    /// What a job made: small, read whole; read object by object where it is not small.
    Job,
    /// What jobs made and the next one is not likely to need: read object by object.
    Past,
}

/// A small pack: one of at most so many bytes is read whole, a larger one object by object, through its index.
///
/// To read the whole costs its bytes; a job that reads objects instead waits for some ranges one after the other, about as long as it takes
/// to bring so many bytes out of an object storage.
pub const MAX_WHOLE_BYTES: u64 = 8 * 1024 * 1024;

impl PackEntry {
    /// Whether jobs read the pack as a whole, if those of at most so many bytes are.
    pub fn is_read_whole(&self, max_bytes: u64) -> bool {
        matches!(self.kind, PackKind::Trees | PackKind::Job) && self.pack_bytes <= max_bytes
    }
}

/// Whose a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackScope {
    /// Shared by the tenant's sessions of the repository.
    Repository,
    /// Of this session alone.
    Session,
}

/// What a job is about to do at the remote, written before it does so: whoever finds it can tell whether it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    /// The job.
    pub job_id: JobId,
    /// Which attempt at it.
    pub attempt: u32,
    /// The branch that is to move, or to be made.
    pub branch: BranchName,
    /// Where the remote's branch stood; `None` where it does not exist.
    pub expected: Option<CommitId>,
    /// Where it is to stand.
    pub commit: CommitId,
    /// The session's head when this was written: the session follows the remote only if it still stands there.
    pub base: Option<CommitId>,
    /// The session's workspace when this was written.
    pub base_worktree: TreeId,
    /// The workspace that goes with the commit.
    pub worktree: TreeId,
    /// The packs that hold both, beside those of the manifest.
    pub packs: Vec<PackEntry>,
    /// Who chose the branch's name or the commit's message: `caller`, `llm` or `heuristic`.
    pub chosen_by: String,
}

/// A job that was done in the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryEntry {
    /// The job.
    pub job_id: JobId,
    /// Its kind.
    pub kind: JobKind,
    /// The generation that it saved.
    pub generation: Generation,
    /// The head afterwards.
    pub head: Option<CommitId>,
    /// The user on whose behalf it was done, as the service named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// When it was saved.
    #[serde(with = "mayfly_protocol::event::timestamp")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: OffsetDateTime,
}

/// A repeated attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fence {
    /// The job.
    pub job_id: JobId,
    /// Which attempt at it, from 2.
    pub attempt: u32,
}

/// What a job answered, saved together with what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobResult {
    /// The job.
    pub job_id: JobId,
    /// The `data` of its `completed` event.
    pub data: serde_json::Value,
}

impl Manifest {
    /// The manifest of a session that is about to be saved for the first time: no objects, no commit.
    pub fn new(session_id: SessionId, repo_url: RepoUrl, branch: BranchName, at: OffsetDateTime) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            session_id,
            generation: Generation(0),
            repo_url,
            branch,
            head: None,
            upstream: None,
            worktree: TreeId::EMPTY_TREE,
            refs: BTreeMap::new(),
            shallow: Vec::new(),
            fetched: Fetched {
                depth: None,
                filter: None,
                reason: "full history by default".to_owned(),
            },
            packs: Vec::new(),
            lfs: None,
            intent: None,
            history: Vec::new(),
            last_result: None,
            fence: None,
            created_at: at,
            updated_at: at,
        }
    }

    /// Where the remote's branch of this name stood when it was last seen.
    pub fn remote_tip(&self, branch: &BranchName) -> Option<CommitId> {
        self.refs.get(&branch.to_ref()).copied()
    }

    /// The commits that the remote is known to have.
    pub fn known_tips(&self) -> Vec<CommitId> {
        let mut tips: Vec<_> = self.refs.values().copied().collect();
        tips.sort_unstable();
        tips.dedup();
        tips
    }

    /// Whether the remote lacks the head, as far as the session knows.
    pub fn has_unpushed_head(&self) -> bool {
        self.head != self.upstream
    }

    /// Whether nothing of the history was left out.
    pub fn has_all_history(&self) -> bool {
        self.shallow.is_empty() && self.fetched.depth.is_none()
    }

    /// All packs that the session holds, those of an intent too.
    pub fn listed_packs(&self) -> impl Iterator<Item = &PackEntry> {
        let intended = self.intent.iter().flat_map(|intent| &intent.packs);
        self.packs.iter().chain(intended)
    }

    /// Adds a pack, unless it is listed already.
    pub fn add_pack(&mut self, entry: PackEntry) {
        if !self
            .packs
            .iter()
            .any(|known| known.hash == entry.hash && known.scope == entry.scope)
        {
            self.packs.push(entry);
        }
    }

    /// Lists a trees pack in place of the one of the former head.
    pub fn replace_trees(&mut self, entry: PackEntry) {
        self.packs.retain(|known| known.kind != PackKind::Trees);
        self.add_pack(entry);
    }

    /// Lists these packs in place of others, which hold nothing else.
    pub fn replace_packs(&mut self, replaced: &[PackEntry], by: impl IntoIterator<Item = PackEntry>) {
        self.packs.retain(|known| !replaced.contains(known));
        for entry in by {
            self.add_pack(entry);
        }
    }

    /// Counts one more save, by this job; what the one before answered is forgotten, and the fence falls.
    pub fn record(&mut self, job_id: JobId, kind: JobKind, user_id: Option<String>, at: OffsetDateTime) {
        self.generation = self.generation.next();
        self.updated_at = at;
        self.history.push(HistoryEntry {
            job_id,
            kind,
            generation: self.generation,
            head: self.head,
            user_id,
            at,
        });
        let surplus = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..surplus);
        self.last_result = None;
        self.fence = None;
    }

    /// Keeps what the job that was recorded last is going to answer.
    pub fn answer(&mut self, data: serde_json::Value) {
        self.last_result = self.history.last().map(|entry| JobResult {
            job_id: entry.job_id.clone(),
            data,
        });
    }

    /// Where this job was done before, as far as the history goes back.
    pub fn done(&self, job_id: &JobId, kind: JobKind) -> Option<&HistoryEntry> {
        let is_it = |entry: &&HistoryEntry| entry.job_id == *job_id && entry.kind == kind;
        self.history.iter().rev().find(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn manifest() -> Manifest {
        let at = datetime!(2026-01-02 03:04:05.678 UTC);
        let mut manifest = Manifest::new(
            "s1".parse().unwrap(),
            "https://host/o/r".parse().unwrap(),
            "main".parse().unwrap(),
            at,
        );
        let commit = ObjectId::from_bytes([7; 20]);
        manifest.head = Some(commit);
        manifest.upstream = Some(commit);
        manifest.refs.insert("refs/heads/main".into(), commit);
        manifest.add_pack(PackEntry {
            hash: ObjectId::from_bytes([9; 20]),
            name: PackName::try_from("0".repeat(32)).unwrap(),
            kind: PackKind::Base,
            scope: PackScope::Repository,
            objects: 3,
            pack_bytes: 400,
            index_bytes: 1100,
        });
        manifest.record(
            "01890000-0000-7000-8000-000000000000".parse().unwrap(),
            JobKind::CloneRepository,
            None,
            at,
        );
        manifest
    }

    #[test]
    fn the_format_is_pinned() {
        insta::assert_json_snapshot!(manifest(), @r#"
        {
          "formatVersion": 1,
          "sessionId": "s1",
          "generation": 1,
          "repoUrl": "https://host/o/r",
          "branch": "main",
          "head": "0707070707070707070707070707070707070707",
          "upstream": "0707070707070707070707070707070707070707",
          "worktree": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
          "refs": {
            "refs/heads/main": "0707070707070707070707070707070707070707"
          },
          "shallow": [],
          "fetched": {
            "depth": null,
            "filter": null,
            "reason": "full history by default"
          },
          "packs": [
            {
              "hash": "0909090909090909090909090909090909090909",
              "name": "00000000000000000000000000000000",
              "kind": "base",
              "scope": "repository",
              "objects": 3,
              "packBytes": 400,
              "indexBytes": 1100
            }
          ],
          "intent": null,
          "history": [
            {
              "jobId": "01890000-0000-7000-8000-000000000000",
              "kind": "clone_repository",
              "generation": 1,
              "head": "0707070707070707070707070707070707070707",
              "at": "2026-01-02T03:04:05.678Z"
            }
          ],
          "createdAt": "2026-01-02T03:04:05.678Z",
          "updatedAt": "2026-01-02T03:04:05.678Z"
        }
        "#);
    }

    #[test]
    fn only_the_newest_answer_is_kept() {
        let mut manifest = manifest();
        let (first, second) = (JobId::new_now(), JobId::new_now());
        manifest.record(first.clone(), JobKind::ApplyChanges, None, manifest.updated_at);
        manifest.answer(serde_json::json!({"filesChanged": 1}));
        let kept = manifest.last_result.clone().unwrap();
        assert_eq!((&kept.job_id, &kept.data["filesChanged"]), (&first, &1.into()));
        manifest.record(second, JobKind::ApplyChanges, None, manifest.updated_at);
        assert_eq!(manifest.last_result, None);
        let done = manifest.done(&first, JobKind::ApplyChanges);
        assert_eq!(done.map(|entry| entry.generation), Some(Generation(2)));
        assert_eq!(manifest.done(&first, JobKind::CommitAndPush), None);
    }

    #[test]
    fn history_is_bounded_and_generations_count_on() {
        let mut manifest = manifest();
        for _ in 0..100 {
            manifest.record(JobId::new_now(), JobKind::ApplyChanges, None, manifest.updated_at);
        }
        assert_eq!(manifest.history.len(), MAX_HISTORY);
        assert_eq!(manifest.generation, Generation(101));
        assert_eq!(
            manifest.history.last().map(|entry| entry.generation),
            Some(Generation(101))
        );
    }
}
