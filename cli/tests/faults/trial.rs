//! One job that goes wrong in every way that a test thinks of, each time on the same state; what the session and the remote may be then, and
//! that the job comes to its end when it is done again.

use std::collections::BTreeMap;

use mayfly_protocol::EventBody;
use mayfly_testkit::lfs;
use mayfly_testkit::repo::{BareRepo, TestRepo, noise};
use mayfly_testkit::sse::{Numbered, completed};
use serde_json::{Value, json};

use super::ground::{Ground, NAME, Order, REPOSITORY, State};
use super::session::Found;

/// A path and a body.
pub(super) type Request = (&'static str, Value);

/// A job, and what there is before it.
pub(super) struct Case {
    /// The jobs that make the session, each of which must succeed.
    pub(super) before: fn(&Ground) -> Vec<Request>,
    /// Whether the repository has contents of Git LFS.
    pub(super) lfs: bool,
    /// Branches of the repository, `side-1` and so on, each with a commit of its own.
    pub(super) side_branches: usize,
    /// Whether somebody else pushes to the repository after them.
    pub(super) news: bool,
    pub(super) job: fn(&Ground) -> Request,
    /// A part of the job that is saved by itself, as a job of its own.
    pub(super) first_half: Option<fn(&Ground) -> Request>,
    /// Who comes after the attempt that went wrong.
    pub(super) next: Next,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            before: |_| Vec::new(),
            lfs: false,
            side_branches: 0,
            news: false,
            job: clone,
            first_half: None,
            next: Next::SameJob,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// The second attempt at the same job.
    SameJob,
    /// Another job that asks for the same.
    AnotherJob,
}

/// Where a session and its remote stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    session: Value,
    refs: BTreeMap<String, String>,
}

/// What a job makes that nobody disturbs.
struct Undisturbed {
    data: Value,
    /// The proxies that its requests came to, in their order.
    requests: Vec<&'static str>,
    before: Standing,
    between: Value,
    after: Standing,
}

/// A job with the state that each of its attempts begins on.
pub(super) struct Trial {
    pub(super) ground: Ground,
    pub(super) order: Order,
    bare: BareRepo,
    next: Next,
    state: State,
    undisturbed: Undisturbed,
}

pub(super) fn clone(ground: &Ground) -> Request {
    ("/clone-repository", ground.clone_body(NAME))
}

pub(super) fn changes(_: &Ground) -> Request {
    let files = json!([{"path": "made.txt", "content": "made\n"}, {"path": "README.md", "delete": true}]);
    ("/apply-changes", json!({"sessionId": NAME, "files": files}))
}

pub(super) fn branch(ground: &Ground, more: Value) -> Request {
    let mut body = ground.body(more);
    body["userRequest"] = "Add a greeting".into();
    ("/create-branch", body)
}

pub(super) fn commit(ground: &Ground, more: Value) -> Request {
    let mut body = ground.body(more);
    body["message"] = "Once".into();
    ("/commit-and-push", body)
}

/// The job of a case.
pub(super) fn request(case: &Case, ground: &Ground) -> Request {
    (case.job)(ground)
}

/// Puts a repository on the host that the real `git lfs` gave two contents.
pub(super) fn published_with_lfs(ground: &Ground) -> BareRepo {
    let repo = TestRepo::sample();
    lfs::enable(repo.path());
    repo.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
        .write("a.bin", noise(3_000, 1))
        .write("deep/b.bin", noise(2_000, 2));
    repo.commit("Contents");
    let bare = ground.host.publish(&repo, REPOSITORY);
    lfs::push_contents(repo.path(), &ground.host.url(REPOSITORY), ground.host.token());
    bare
}

impl Trial {
    /// Makes the state before the job, and finds out what the job makes of it.
    pub(super) async fn of(case: Case) -> Self {
        let (ground, bare) = match case.lfs {
            false => {
                let ground = Ground::in_a_bucket().await;
                let bare = ground.host.publish(&TestRepo::sample(), REPOSITORY);
                (ground, bare)
            }
            true => {
                let ground = Ground::in_a_bucket_with_lfs().await;
                let bare = published_with_lfs(&ground);
                (ground, bare)
            }
        };
        for number in 1..=case.side_branches {
            let name = format!("side-{number}");
            bare.text(&["branch", &name, "main"]);
            bare.commit_behind_their_back(&name, "side.txt", &format!("{number}\n"));
        }
        for (path, body) in (case.before)(&ground) {
            ground.done("before", path, body).await;
        }
        if case.news {
            bare.commit_behind_their_back("main", "theirs.txt", "theirs\n");
        }
        let state = ground.take("before", &bare).await;
        let (path, body) = (case.job)(&ground);
        let order = Order::new(path, body);
        let undisturbed = undisturbed(&ground, &bare, &state, (&case, &order)).await;
        Self {
            ground,
            order,
            bare,
            next: case.next,
            state,
            undisturbed,
        }
    }

    /// How many requests the job makes, and how many of them to the storage.
    pub(super) fn requests(&self) -> u64 {
        self.undisturbed.requests.len() as u64
    }

    pub(super) fn storage_requests(&self) -> u64 {
        let requests = self.undisturbed.requests.iter();
        requests.filter(|proxy| **proxy == "s3").count() as u64
    }

    /// Lays the state before the job out below this prefix.
    pub(super) async fn lay_out(&self, prefix: &str) {
        self.ground.lay_out(prefix, &self.state, &self.bare).await;
    }

    pub(super) async fn standing(&self, prefix: &str) -> Standing {
        standing(&self.ground, prefix, &self.bare).await
    }

    /// Whether all is as after the job that nobody disturbed.
    pub(super) fn is_done(&self, now: &Standing) -> bool {
        *now == self.undisturbed.after
    }

    #[track_caller]
    pub(super) fn assert_same_data(&self, events: &[Numbered], at: &str) {
        assert_eq!(lasting(completed(events)), self.undisturbed.data, "{at}");
    }

    #[track_caller]
    pub(super) fn assert_old_or_new(&self, now: &Standing, at: &str) {
        let Undisturbed {
            before,
            between,
            after,
            ..
        } = &self.undisturbed;
        let sessions = [&before.session, between, &after.session];
        assert!(sessions.contains(&&now.session), "{at}: {now:?}");
        assert!([&before.refs, &after.refs].contains(&&now.refs), "{at}: {now:?}");
        // The remote is never behind the session.
        assert!(
            now.session != after.session || now.refs == after.refs,
            "{at}: {now:?}"
        );
    }

    /// Has a fresh worker do the job again: everything is as if nothing had gone wrong.
    pub(super) async fn goes_on(&self, prefix: &str, at: &str) {
        let again = match self.next {
            Next::SameJob => self.order.again(),
            Next::AnotherJob => self.order.as_another(),
        };
        let events = self.ground.run(prefix, &again).await;
        let last = events.last().map(|(_, event)| event);
        let succeeded = last.is_some_and(|event| matches!(event.body, EventBody::Completed { .. }));
        assert!(succeeded, "{at}: {last:?}");
        let found = Found::among(&self.ground.objects(prefix).await).unwrap();
        assert!(!found.has_intent(), "{at}");
        let (now, mut then) = (found.state(), self.undisturbed.after.session.clone());
        if self.next == Next::SameJob {
            self.assert_same_data(&events, at);
        } else {
            // It is one save more where the first job had made its own.
            then[0] = found.generation().into();
        }
        assert_eq!(now, then, "{at}");
        assert_eq!(self.bare.refs(), self.undisturbed.after.refs, "{at}");
        self.bare.fsck_strict();
        let left: Vec<_> = std::fs::read_dir(self.ground.tmp()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{at}: {left:?}");
    }
}

async fn undisturbed(
    ground: &Ground,
    bare: &BareRepo,
    state: &State,
    (case, order): (&Case, &Order),
) -> Undisturbed {
    let before = standing(ground, "before", bare).await;
    let mut between = before.session.clone();
    if let Some(first_half) = case.first_half {
        ground.lay_out("half", state, bare).await;
        let (path, body) = first_half(ground);
        ground.done("half", path, body).await;
        between = standing(ground, "half", bare).await.session;
    }
    ground.lay_out("undisturbed", state, bare).await;
    let events = ground.run("undisturbed", order).await;
    let seen = ground.chaos.seen();
    Undisturbed {
        data: lasting(completed(&events)),
        requests: seen.iter().map(|seen| seen.proxy).collect(),
        before,
        between,
        after: standing(ground, "undisturbed", bare).await,
    }
}

/// Without the figures of what was moved, which is less where an attempt before has left it in the storage.
fn lasting(data: &Value) -> Value {
    let mut data = data.clone();
    let fields = data.as_object_mut().unwrap();
    fields.retain(|name, _| !["objects", "receivedBytes", "lfs"].contains(&name.as_str()));
    data
}

async fn standing(ground: &Ground, prefix: &str, bare: &BareRepo) -> Standing {
    let found = Found::among(&ground.objects(prefix).await);
    Standing {
        session: found.map_or(Value::Null, |found| found.state()),
        refs: bare.refs(),
    }
}
