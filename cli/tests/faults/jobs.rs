//! The jobs that go wrong in these tests: each with what there is before it. Every one of them is put through each kind of fault.

use serde_json::json;

use super::ground::Ground;
use super::trial::{Case, Next, Request, branch, changes, clone, commit};

/// Makes a test of each of these jobs.
macro_rules! over_jobs {
    ($($job:ident)* => $run:ident) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $job() {
                $run(crate::faults::jobs::$job()).await;
            }
        )*
    };
}
pub(super) use over_jobs;

/// Makes a test of every job.
macro_rules! over_all_jobs {
    ($run:ident) => {
        crate::faults::jobs::over_jobs! {
            in_a_clone_of_an_unknown_repository
            in_a_clone_of_a_known_repository
            in_a_clone_with_lfs
            in_a_pull
            in_a_pull_that_folds
            in_changes
            in_changes_with_lfs
            in_a_pushed_branch
            in_a_branch_of_the_session_alone
            in_a_pushed_branch_with_commits
            in_a_branch_that_clones_first
            in_a_pushed_commit
            in_a_pushed_commit_before_another_job
            in_a_pushed_commit_with_lfs
            in_a_commit_of_the_session_alone
            in_a_commit_that_folds
            => $run
        }
    };
}
pub(super) use over_all_jobs;

pub(super) fn in_a_clone_of_an_unknown_repository() -> Case {
    Case::default()
}

pub(super) fn in_a_clone_of_a_known_repository() -> Case {
    Case {
        before: |ground| vec![("/clone-repository", ground.clone_body("other"))],
        news: true,
        ..Case::default()
    }
}

pub(super) fn in_a_clone_with_lfs() -> Case {
    Case {
        lfs: true,
        job: clone_with_lfs,
        ..Case::default()
    }
}

pub(super) fn in_a_pull() -> Case {
    Case {
        before: |ground| vec![clone(ground), changes(ground)],
        news: true,
        ..Case::default()
    }
}

/// A pull that writes the packs of pulls before it anew; another session lists them too.
pub(super) fn in_a_pull_that_folds() -> Case {
    Case {
        side_branches: 7,
        before: |ground| {
            let of_branch = |number: usize| {
                let (path, mut body) = clone(ground);
                body["branch"] = format!("side-{number}").into();
                (path, body)
            };
            let pulls = (1..=7).map(of_branch);
            let other = ("/clone-repository", ground.clone_body("other"));
            [clone(ground)].into_iter().chain(pulls).chain([other]).collect()
        },
        news: true,
        job: |ground| {
            let (path, mut body) = clone(ground);
            body["branch"] = "main".into();
            (path, body)
        },
        ..Case::default()
    }
}

pub(super) fn in_changes() -> Case {
    Case {
        before: |ground| vec![clone(ground)],
        job: changes,
        ..Case::default()
    }
}

pub(super) fn in_changes_with_lfs() -> Case {
    Case {
        lfs: true,
        before: |ground| vec![clone_with_lfs(ground)],
        job: changes_with_lfs,
        ..Case::default()
    }
}

pub(super) fn in_a_pushed_branch() -> Case {
    Case {
        before: |ground| vec![clone(ground)],
        job: |ground| branch(ground, json!({})),
        ..Case::default()
    }
}

pub(super) fn in_a_branch_of_the_session_alone() -> Case {
    Case {
        before: committed,
        job: |ground| branch(ground, json!({"push": false})),
        ..Case::default()
    }
}

pub(super) fn in_a_pushed_branch_with_commits() -> Case {
    Case {
        before: committed,
        job: |ground| branch(ground, json!({"branchName": "mine"})),
        ..Case::default()
    }
}

pub(super) fn in_a_branch_that_clones_first() -> Case {
    Case {
        job: |ground| branch(ground, json!({"repoUrl": ground.repo_url()})),
        first_half: Some(clone),
        ..Case::default()
    }
}

pub(super) fn in_a_pushed_commit() -> Case {
    Case {
        before: |ground| vec![clone(ground), changes(ground)],
        job: |ground| commit(ground, json!({})),
        ..Case::default()
    }
}

pub(super) fn in_a_pushed_commit_before_another_job() -> Case {
    Case {
        next: Next::AnotherJob,
        ..in_a_pushed_commit()
    }
}

pub(super) fn in_a_pushed_commit_with_lfs() -> Case {
    Case {
        lfs: true,
        before: |ground| vec![clone_with_lfs(ground), changes_with_lfs(ground)],
        job: |ground| commit(ground, json!({})),
        ..Case::default()
    }
}

pub(super) fn in_a_commit_of_the_session_alone() -> Case {
    Case {
        before: |ground| vec![clone(ground), changes(ground)],
        job: |ground| commit(ground, json!({"push": false})),
        ..Case::default()
    }
}

/// A commit that writes the small packs before it anew.
pub(super) fn in_a_commit_that_folds() -> Case {
    Case {
        before: |ground| {
            let change = |number: u32| {
                let files = json!([{"path": "made.txt", "content": format!("made {number}\n")}]);
                let body = json!({"sessionId": super::ground::NAME, "files": files});
                ("/apply-changes", body)
            };
            let changes_before = (0..6).map(change);
            let all = [clone(ground)].into_iter().chain(changes_before);
            all.chain([changes(ground)]).collect()
        },
        job: |ground| commit(ground, json!({})),
        ..Case::default()
    }
}

/// A session with a commit that is not pushed.
fn committed(ground: &Ground) -> Vec<Request> {
    let commit = commit(ground, json!({"push": false}));
    vec![clone(ground), changes(ground), commit]
}

pub(super) fn clone_with_lfs(ground: &Ground) -> Request {
    let (path, mut body) = clone(ground);
    body["lfs"] = true.into();
    (path, body)
}

fn changes_with_lfs(_: &Ground) -> Request {
    let files = json!([{"path": "a.bin", "content": "other\n"}, {"path": "new.bin", "content": "new\n"}]);
    (
        "/apply-changes",
        json!({"sessionId": super::ground::NAME, "files": files}),
    )
}
