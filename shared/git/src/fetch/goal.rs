//! Decides what to ask for. Pure: refs and request in, goal out.

use mayfly_protocol::{BranchName, CommitId};

use super::{FetchError, FetchRequest, WHOLE_HISTORY};
use crate::refs::RemoteRefs;

/// The branch that an empty repository gets whose remote names none, as git's hosts do.
const USUAL_BRANCH: &str = "main";

/// What a fetch is to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) branch: BranchName,
    pub(crate) tip: Option<CommitId>,
    /// The commits to ask for; none if all is known.
    pub(crate) wants: Vec<CommitId>,
}

pub(crate) fn decide(refs: &RemoteRefs, request: &FetchRequest) -> Result<Goal, FetchError> {
    let branch = choose_branch(refs, request)?;
    let branch_tip = refs.branch(&branch);
    let tip = match (request.commit, branch_tip) {
        (Some(commit), None) => return Err(FetchError::CommitNotFound { commit }),
        (commit, branch_tip) => commit.or(branch_tip),
    };
    let mut wants: Vec<CommitId> = tip.into_iter().collect();
    if request.depth.is_none_or(|depth| depth == WHOLE_HISTORY) {
        wants.extend(branch_tip.filter(|branch_tip| Some(*branch_tip) != tip));
    }
    if request.depth.is_none() {
        wants.retain(|want| !request.have.contains(want));
    }
    Ok(Goal { branch, tip, wants })
}

/// The branch that is named, or the remote's own; it may be unborn, if the repository is empty.
fn choose_branch(refs: &RemoteRefs, request: &FetchRequest) -> Result<BranchName, FetchError> {
    let is_empty = refs.branch_names().next().is_none();
    let Some(branch) = &request.branch else {
        let usual = || USUAL_BRANCH.parse().ok().filter(|_| is_empty);
        let head = refs
            .head
            .clone()
            .or_else(usual)
            .ok_or(FetchError::NoDefaultBranch)?;
        return if is_empty || refs.branch(&head).is_some() {
            Ok(head)
        } else {
            Err(FetchError::NoDefaultBranch)
        };
    };
    let is_unborn = is_empty && refs.head.as_ref().is_none_or(|head| head == branch);
    if is_unborn || refs.branch(branch).is_some() {
        return Ok(branch.clone());
    }
    Err(FetchError::BranchNotFound {
        branch: branch.clone(),
    })
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::ErrorCode;

    use super::*;

    fn id(byte: u8) -> CommitId {
        CommitId::from_bytes([byte; 20])
    }

    fn refs(head: Option<&str>, branches: &[(&str, u8)]) -> RemoteRefs {
        RemoteRefs {
            head: head.map(|head| head.parse().unwrap()),
            refs: branches
                .iter()
                .map(|(name, byte)| (format!("refs/heads/{name}"), id(*byte)))
                .collect(),
        }
    }

    fn request(branch: Option<&str>) -> FetchRequest {
        FetchRequest {
            branch: branch.map(|branch| branch.parse().unwrap()),
            ..FetchRequest::default()
        }
    }

    #[test]
    fn branches_are_chosen() {
        let two = refs(Some("trunk"), &[("trunk", 1), ("x", 2)]);
        let dangling = refs(Some("gone"), &[("x", 2)]);
        let headless = refs(None, &[("x", 2)]);
        let (empty, unborn) = (refs(None, &[]), refs(Some("trunk"), &[]));
        for (refs, asked, expected) in [
            (&two, None, Ok(("trunk", Some(1)))),
            (&two, Some("x"), Ok(("x", Some(2)))),
            (&two, Some("y"), Err(())),
            (&dangling, None, Err(())),
            (&dangling, Some("x"), Ok(("x", Some(2)))),
            (&dangling, Some("gone"), Err(())),
            (&headless, None, Err(())),
            (&empty, None, Ok(("main", None))),
            (&empty, Some("x"), Ok(("x", None))),
            (&unborn, None, Ok(("trunk", None))),
            (&unborn, Some("trunk"), Ok(("trunk", None))),
            (&unborn, Some("x"), Err(())),
        ] {
            let goal = decide(refs, &request(asked));
            match (goal, expected) {
                (Ok(goal), Ok((branch, tip))) => {
                    assert_eq!((goal.branch.as_str(), goal.tip), (branch, tip.map(id)));
                    assert_eq!(goal.wants, tip.map(id).into_iter().collect::<Vec<_>>());
                }
                (Err(error), Err(())) => assert_eq!(error.code(), ErrorCode::BranchNotFound),
                (goal, expected) => panic!("{asked:?}: {goal:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn commits_and_haves_shape_the_wants() {
        let refs = refs(Some("trunk"), &[("trunk", 1)]);
        let base = request(None);
        let depth = std::num::NonZeroU32::new(1);
        for (commit, depth, have, tip, wants) in [
            (None, None, vec![1], 1, vec![]),
            (None, None, vec![2], 1, vec![1]),
            (None, depth, vec![1], 1, vec![1]),
            (Some(7), None, vec![], 7, vec![7, 1]),
            (Some(7), None, vec![1], 7, vec![7]),
            (Some(7), None, vec![1, 7], 7, vec![]),
            (Some(7), depth, vec![], 7, vec![7]),
            (Some(1), None, vec![], 1, vec![1]),
        ] {
            let request = FetchRequest {
                commit: commit.map(id),
                depth,
                have: have.iter().copied().map(id).collect(),
                ..base.clone()
            };
            let goal = decide(&refs, &request).unwrap();
            assert_eq!(goal.tip, Some(id(tip)));
            assert_eq!(
                goal.wants,
                wants.into_iter().map(id).collect::<Vec<_>>(),
                "{request:?}"
            );
        }
        let nowhere = FetchRequest {
            commit: Some(id(7)),
            ..base
        };
        let error = decide(&self::refs(Some("trunk"), &[]), &nowhere).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CommitNotFound);
    }
}
