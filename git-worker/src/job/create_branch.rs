//! `/create-branch`: a branch from the session's head, named by the caller, an LLM or a rule, and pushed.

use mayfly_git::push::{SendPack, empty_pack};
use mayfly_git::remote::Remote;
use mayfly_naming::BranchRequest;
use mayfly_protocol::answer::CreatedBranch;
use mayfly_protocol::request::{CloneRepository, CreateBranch, History};
use mayfly_protocol::{BranchName, CommitId, ErrorCode, JobKind, RepoUrl, Stage};
use mayfly_session::{Intent, Manifest, Session, SessionStore};
use mayfly_worker::JobContext;
use serde_json::Value;

use super::clone_repository::{Draft, clone_into_new, fetch_lfs, stand_at, stand_still};
use super::{or_conflict, remote, require_same_repository, told};
use crate::GitWorker;
use crate::failure::JobError;
use crate::ignored::{self, Ignored};
use crate::lfs::Lfs;
use crate::publish::{self, Publication};
use crate::receive::{Tip, Wanted, receive};
use crate::repeat::{done_before, shut_out_earlier};
use crate::workspace::Workspace;

pub(crate) async fn run(
    worker: &GitWorker,
    job: CreateBranch,
    context: &JobContext,
) -> Result<Value, JobError> {
    let events = &context.events;
    events.stage(Stage::Preparing, "Preparing credentials...");
    let sessions = worker.sessions(context);
    events.stage(Stage::DownloadingSession, "Downloading session...");
    let session = load_or_clone(worker, &sessions, &job, context).await?;
    if let Some(data) = done_before(&session, JobKind::CreateBranch, context)? {
        return Ok(data);
    }
    let session = shut_out_earlier(&sessions, session, context).await?;
    let mut manifest = session.manifest.clone();
    let from = remote(&manifest.repo_url, job.access_token.as_ref());
    let connection = if job.push {
        Some(publish::connect(worker, &from, context).await?)
    } else {
        None
    };
    let resumed = connection
        .as_ref()
        .and_then(|it| publish::settle(&mut manifest, it.refs(), &context.job_id));
    let base = job.base_branch.clone().unwrap_or_else(|| manifest.branch.clone());
    if base != manifest.branch && resumed.is_none() {
        move_to_base(worker, &sessions, &mut manifest, (&from, &base), context).await?;
    }

    events.stage(Stage::GeneratingName, "Generating branch name...");
    let mut name = match &resumed {
        Some(intent) => Name::of(intent),
        None => match choose_name(worker, &job, &manifest, connection.as_ref(), context).await {
            Ok(name) => name,
            Err(error) => return Err(or_conflict(&sessions, &session, error).await),
        },
    };
    events.stage(Stage::NameGenerated, format!("Branch name: {}", name.branch));
    let message = format!("Creating branch {}...", name.branch);
    events.stage(Stage::CreatingBranch, message);
    let head = resumed.as_ref().map(|intent| intent.commit).or(manifest.head);
    let mut fenced = session;
    let pushed = connection.is_some() && head.is_some();
    if let (Some(connection), Some(head)) = (connection, head) {
        let pack = missing_objects(worker, &sessions, &manifest, (head, &from), context).await?;
        let push = Push {
            worker,
            sessions: &sessions,
            from: &from,
            context,
            head,
            pack,
        };
        fenced = push
            .run(connection, fenced, &mut manifest, &mut name, resumed)
            .await?;
    }
    manifest.branch = name.branch;

    events.stage(Stage::Uploading, "Uploading to storage...");
    let (id, at) = (context.job_id.clone(), context.accepted_at);
    manifest.record(id, JobKind::CreateBranch, None, at);
    let data = told(&completed(&manifest, &base, pushed, &name.chosen_by));
    manifest.answer(data.clone());
    worker.gate.enter()?;
    sessions.save(Some(&fenced), manifest).await?;
    Ok(data)
}

fn completed(manifest: &Manifest, base: &BranchName, pushed: bool, chosen_by: &str) -> CreatedBranch {
    CreatedBranch {
        session_id: manifest.session_id.clone(),
        generation: manifest.generation,
        branch: manifest.branch.clone(),
        base_branch: base.clone(),
        head_sha: manifest.head,
        pushed,
        name_source: chosen_by.to_owned(),
    }
}

/// Loads the session; where there is none and the request names a repository, clones it first and saves that.
async fn load_or_clone(
    worker: &GitWorker,
    sessions: &SessionStore,
    job: &CreateBranch,
    context: &JobContext,
) -> Result<Session, JobError> {
    match (sessions.load(&job.session_id).await?, &job.repo_url) {
        (Some(session), Some(url)) => {
            require_same_repository(&session, url)?;
            require_lfs(job, session)
        }
        (Some(session), None) => Ok(session),
        (None, Some(url)) => clone_first(worker, sessions, job, url, context).await,
        (None, None) => Err(JobError::new(
            ErrorCode::SessionNotFound,
            format!(
                "session `{}` does not exist; clone a repository into it first, or send `repoUrl`",
                job.session_id
            ),
        )),
    }
}

/// A session that is there is taken as it is.
fn require_lfs(job: &CreateBranch, session: Session) -> Result<Session, JobError> {
    if job.lfs && session.manifest.lfs.is_none() {
        let text = format!(
            "session `{}` was cloned without Git LFS, and a branch changes nothing of that; clone into it again with `lfs: true`, or leave `lfs` out",
            job.session_id
        );
        return Err(JobError::new(ErrorCode::LfsNotEnabled, text));
    }
    Ok(session)
}

async fn clone_first(
    worker: &GitWorker,
    sessions: &SessionStore,
    job: &CreateBranch,
    url: &RepoUrl,
    context: &JobContext,
) -> Result<Session, JobError> {
    let clone = CloneRepository {
        callback_url: None,
        session_id: job.session_id.clone(),
        repo_url: url.clone(),
        branch: job.base_branch.clone(),
        access_token: job.access_token.clone(),
        commit: None,
        history: History::Chosen,
        lfs: job.lfs,
    };
    let from = remote(url, job.access_token.as_ref());
    let wanted = Wanted {
        branch: clone.branch.clone(),
        ..Wanted::default()
    };
    let draft = Draft {
        job: &clone,
        remote: &from,
        wanted,
        stage: Stage::DownloadingSession,
    };
    let (mut manifest, _) = clone_into_new(worker, sessions, draft, context).await?;
    let asked = (&clone, &from, Stage::DownloadingSession);
    fetch_lfs(worker, sessions, asked, (None, &mut manifest), context).await?;
    manifest.record(
        context.job_id.clone(),
        JobKind::CloneRepository,
        None,
        context.accepted_at,
    );
    worker.gate.enter()?;
    let cloned = sessions.save(None, manifest).await?;
    let left = "the session holds the clone of its repository, and the branch was not made";
    worker.gate.leave(left, &context.cancel)?;
    Ok(cloned)
}

/// Stands the session on another branch of the remote; only where it has nothing of its own to lose.
async fn move_to_base(
    worker: &GitWorker,
    sessions: &SessionStore,
    manifest: &mut Manifest,
    (from, base): (&Remote, &BranchName),
    context: &JobContext,
) -> Result<(), JobError> {
    let workspace = Workspace::open(worker, sessions, manifest, context).await?;
    let mut ignored = Ignored::none(manifest.worktree);
    if let Some(head) = manifest.head {
        let own_tree = workspace.commit_tree(manifest, head).await?;
        let max_changes = worker.config.limits.diff.max_changes;
        ignored = ignored::find(&workspace, manifest, (own_tree, manifest.worktree), max_changes).await?;
        if ignored.committable != own_tree || manifest.has_unpushed_head() {
            return Err(JobError::new(
                ErrorCode::WorktreeDirty,
                format!(
                    "session `{}` has changes on `{}` that are not pushed; commit and push them before starting from `{base}`",
                    manifest.session_id, manifest.branch
                ),
            ));
        }
    }
    let wanted = Wanted {
        branch: Some(base.clone()),
        ..Wanted::default()
    };
    let stage = (context, Stage::DownloadingSession);
    let mut received = receive(worker, &workspace, sessions, manifest, (from, wanted), stage).await?;
    match &received.tip {
        Tip::Other(commit) => {
            let worktree = (manifest.worktree, commit.tree);
            manifest.worktree = ignored.carry(&workspace, manifest, worktree).await?;
            stand_at(manifest, &received.branch, commit);
            let upstream = manifest.upstream;
            workspace.upload_new_objects(manifest, upstream).await?;
            received.brought.folded = workspace.fold_received(manifest).await?;
            sessions.remember(manifest, commit.tree, &received.brought).await;
            if manifest.lfs.is_some() {
                let lfs = Lfs {
                    worker,
                    workspace: &workspace,
                    sessions,
                    context,
                };
                lfs.fetch(manifest, (from, Stage::DownloadingSession)).await?;
            }
        }
        Tip::Head => stand_still(manifest, &received.branch),
        Tip::Unborn => manifest.branch = received.branch.clone(),
    }
    Ok(())
}

/// How often a name that another job took in the meantime is changed.
const NAME_ROUNDS: u32 = 8;
/// Who chose a name that is not to be changed.
const CALLER: &str = "caller";

/// The name of the branch, and who chose it.
struct Name {
    branch: BranchName,
    chosen_by: String,
}

impl Name {
    /// The name that an earlier attempt has announced.
    fn of(intent: &Intent) -> Self {
        Self {
            branch: intent.branch.clone(),
            chosen_by: intent.chosen_by.clone(),
        }
    }
}

/// The push of a new branch.
struct Push<'a> {
    worker: &'a GitWorker,
    sessions: &'a SessionStore,
    from: &'a Remote,
    context: &'a JobContext,
    head: CommitId,
    pack: bytes::Bytes,
}

impl Push<'_> {
    /// Pushes the branch. A name that was not the caller's choice, and that another job took since the remote was asked, gets a number.
    async fn run(
        &self,
        mut connection: SendPack,
        mut fenced: Session,
        manifest: &mut Manifest,
        name: &mut Name,
        mut resumed: Option<Intent>,
    ) -> Result<Session, JobError> {
        let mut round = 1;
        loop {
            let Name { branch, chosen_by } = &*name;
            self.context
                .events
                .stage(Stage::Pushing, format!("Pushing {branch}..."));
            let manifests = (&fenced.manifest, &*manifest);
            let intent = resumed.take().unwrap_or_else(|| {
                publish::intend(self.context, manifests, branch, (None, self.head), chosen_by)
            });
            let publication = Publication {
                intent: intent.clone(),
                pack: self.pack.clone(),
            };
            let to = (connection, self.from);
            let before = fenced.manifest.clone();
            match publish::publish(self.worker, self.sessions, fenced, to, publication, self.context).await {
                Ok(session) => {
                    publish::complete(manifest, &intent);
                    return Ok(session);
                }
                Err(error) if error.code() != ErrorCode::NotFastForward => return Err(error),
                Err(error) if name.chosen_by == CALLER => return Err(taken(&name.branch, &error)),
                Err(error) if round == NAME_ROUNDS => return Err(error),
                Err(_) => {}
            }
            fenced = self.reload(&before).await?;
            connection = publish::connect(self.worker, self.from, self.context).await?;
            name.branch = with_number(&name.branch, &connection)?;
            round += 1;
        }
    }

    /// The session with its fence of now; it must still be what this job has loaded.
    async fn reload(&self, before: &Manifest) -> Result<Session, JobError> {
        let session = super::load_existing(self.sessions, &before.session_id).await?;
        if session.manifest == *before {
            return Ok(session);
        }
        let text = format!(
            "session `{}` was saved by another job in the meantime; send this one again",
            before.session_id
        );
        Err(JobError::new(ErrorCode::SessionConflict, text))
    }
}

fn taken(branch: &BranchName, error: &JobError) -> JobError {
    let text =
        format!("branch `{branch}` was made by somebody else in the meantime; choose another name ({error})");
    JobError::new(ErrorCode::BranchExists, text)
}

/// The same name with the first number that makes it free.
fn with_number(branch: &BranchName, connection: &SendPack) -> Result<BranchName, JobError> {
    let taken: Vec<&str> = connection.refs().branch_names().collect();
    (2..=taken.len() + 2)
        .filter_map(|number| format!("{branch}-{number}").parse::<BranchName>().ok())
        .find(|name| taken.iter().all(|other| !name.collides_with(other)))
        .ok_or_else(|| {
            JobError::new(
                ErrorCode::BranchExists,
                format!("no free name like `{branch}` is left; name the branch yourself"),
            )
        })
}

async fn choose_name(
    worker: &GitWorker,
    job: &CreateBranch,
    manifest: &Manifest,
    connection: Option<&SendPack>,
    context: &JobContext,
) -> Result<Name, JobError> {
    let taken: Vec<BranchName> = match connection {
        Some(connection) => connection
            .refs()
            .branch_names()
            .filter_map(|name| name.parse().ok())
            .collect(),
        None => manifest
            .refs
            .keys()
            .filter_map(|full| BranchName::from_ref(full))
            .collect(),
    };
    if let Some(name) = &job.branch_name {
        return match taken.iter().find(|other| name.collides_with(other.as_str())) {
            None => Ok(Name {
                branch: name.clone(),
                chosen_by: CALLER.to_owned(),
            }),
            Some(other) => Err(JobError::new(
                ErrorCode::BranchExists,
                format!("branch `{name}` cannot be made: the remote has `{other}`; choose another name"),
            )),
        };
    }
    let request = BranchRequest {
        user_request: &job.user_request,
        taken: &taken,
    };
    let named = worker
        .namer
        .branch_name(&request, job.llm_credential.as_ref(), &context.cancel)
        .await;
    if let Some(reason) = &named.fallback_reason {
        tracing::info!(job.id = %context.job_id, reason, "the branch is named by rule");
    }
    Ok(Name {
        branch: named.value,
        chosen_by: named.source.as_str().to_owned(),
    })
}

/// The pack that makes `head` known to the remote: empty, unless it is a commit of the session that was never pushed.
async fn missing_objects(
    worker: &GitWorker,
    sessions: &SessionStore,
    manifest: &Manifest,
    (head, from): (CommitId, &Remote),
    context: &JobContext,
) -> Result<bytes::Bytes, JobError> {
    if manifest.head != Some(head) || !manifest.has_unpushed_head() {
        return Ok(empty_pack());
    }
    let workspace = Workspace::open(worker, sessions, manifest, context).await?;
    let lfs = Lfs {
        worker,
        workspace: &workspace,
        sessions,
        context,
    };
    lfs.send(manifest, head, from).await?;
    workspace.pack_for_remote(manifest, head).await
}
