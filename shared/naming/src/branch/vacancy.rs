//! A name that no branch of the remote has, and that is no folder of one (`a` against `a/b`).
//!
//! This file must not know how names are made.

use mayfly_protocol::BranchName;

use crate::branch;

/// The last number that is tried as a suffix before another base is.
const LAST_SUFFIX: u32 = 99;

/// The first name that is free: the wanted one, then `-2`, `-3` and so on; then the same without its folder (which helps where a branch has
/// the folder's name); then names out of the request's digest.
///
/// Were every one of them taken, the last: the remote then refuses it, and nothing is lost.
pub(crate) fn free(
    wanted: &BranchName,
    user_request: &str,
    taken: &dyn Fn(&BranchName) -> bool,
) -> BranchName {
    let task = branch::task_name(user_request);
    let flat = |name: &str| name.replace('/', "-");
    let bases = [
        wanted.as_str().to_owned(),
        flat(wanted.as_str()),
        task.clone(),
        flat(&task),
    ];
    let mut last = None;
    for candidate in bases.iter().flat_map(|base| numbered(base)) {
        let Ok(name) = candidate.parse::<BranchName>() else {
            continue;
        };
        if !taken(&name) {
            return name;
        }
        last = Some(name);
    }
    last.unwrap_or_else(|| wanted.clone())
}

fn numbered(base: &str) -> impl Iterator<Item = String> {
    let numbered = (2..=LAST_SUFFIX).map(move |number| format!("{base}-{number}"));
    std::iter::once(base.to_owned()).chain(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_among(wanted: &str, existing: &[&str]) -> String {
        let taken = |name: &BranchName| existing.iter().any(|other| name.collides_with(other));
        free(&wanted.parse().unwrap(), "request", &taken).to_string()
    }

    #[test]
    fn names_step_aside() {
        for (wanted, existing, expected) in [
            ("feature/a", &[][..], "feature/a"),
            ("feature/a", &["main", "feature/ab", "feat"], "feature/a"),
            ("feature/a", &["feature/a"], "feature/a-2"),
            ("feature/a", &["feature/a", "feature/a-2"], "feature/a-3"),
            ("feature/a", &["feature/a/b"], "feature/a-2"),
            ("feature/a", &["feature"], "feature-a"),
            ("feature/a", &["feature", "feature-a"], "feature-a-2"),
            ("feature/a/b", &["feature/a"], "feature-a-b"),
        ] {
            assert_eq!(
                free_among(wanted, existing),
                expected,
                "{wanted} among {existing:?}"
            );
        }
    }

    #[test]
    fn a_hundred_equal_requests_are_not_the_end() {
        let mut existing = std::collections::HashSet::new();
        let wanted: BranchName = "feature/a".parse().unwrap();
        for _ in 0..350 {
            let taken = |name: &BranchName| existing.contains(name);
            let name = free(&wanted, "request", &taken);
            assert!(existing.insert(name.clone()), "{name} was taken");
        }
    }

    #[test]
    fn a_remote_that_takes_everything_does_not_hang() {
        assert!(
            free(&"a".parse().unwrap(), "request", &|_| true)
                .as_str()
                .starts_with("task-")
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_exists_the_name_collides_with_nothing(
            wanted in "[ab](/[ab]){0,2}",
            existing in proptest::collection::vec("[ab](/[ab]|-[23]){0,3}", 0..12),
        ) {
            let existing: Vec<&str> = existing.iter().map(String::as_str).collect();
            let name: BranchName = free_among(&wanted, &existing).parse().unwrap();
            proptest::prop_assert!(!existing.iter().any(|other| name.collides_with(other)));
        }
    }
}
