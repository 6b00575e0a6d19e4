//! Patches with random damage: whatever comes of them is a refusal or a sound tree.

use std::sync::LazyLock;

use mayfly_git::apply::ApplyLimits;
use mayfly_protocol::TreeId;
use proptest::prelude::*;

use crate::support::{GitRepo, scratch_of};

/// A repository, its tree, and a patch of every kind of change.
struct Sample {
    repo: GitRepo,
    base: TreeId,
    patch: String,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let repo = GitRepo::new();
    let lines = |from: u32| {
        (from..from + 30)
            .map(|n| format!("line {n}\n"))
            .collect::<String>()
    };
    repo.write("text", lines(0).as_bytes());
    repo.write("moved \"quoted\"", lines(100).as_bytes());
    repo.write("binary", &[0, 1, 2, 3].repeat(500));
    repo.write("gone/file", b"gone\n");
    repo.commit_all("base");
    let base = repo.id("HEAD^{tree}");
    repo.write(
        "text",
        lines(0)
            .replace("line 7\n", "seven\n")
            .replace("line 29\n", "end")
            .as_bytes(),
    );
    repo.git(&["mv", "moved \"quoted\"", "moved here"]);
    repo.write("binary", &[&[9][..], &[0, 1, 2, 3].repeat(500)].concat());
    repo.write("made", b"made\n");
    repo.git(&["rm", "-q", "gone/file"]);
    std::os::unix::fs::symlink("text", repo.path().join("link")).unwrap();
    repo.git(&["add", "-A"]);
    repo.git(&["update-index", "--chmod=+x", "made"]);
    let patch = String::from_utf8(repo.git_raw(&["diff", "--cached", "--binary", "-M"])).unwrap();
    repo.git(&["reset", "-q", "--hard"]);
    Sample { repo, base, patch }
});

/// One thing that happens to a patch.
#[derive(Debug, Clone)]
enum Damage {
    Character(usize, char),
    DropLine(usize),
    DoubleLine(usize),
    SwapLines(usize, usize),
    Cut(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = 0usize..10_000;
    prop_oneof![
        (
            place.clone(),
            prop::sample::select("0179-+ @\\/.\"\t\ra~é".chars().collect::<Vec<_>>())
        )
            .prop_map(|(at, with)| Damage::Character(at, with)),
        place.clone().prop_map(Damage::DropLine),
        place.clone().prop_map(Damage::DoubleLine),
        (place.clone(), place.clone()).prop_map(|(a, b)| Damage::SwapLines(a, b)),
        place.prop_map(Damage::Cut),
    ]
}

fn damaged(patch: &str, damages: &[Damage]) -> String {
    let mut lines: Vec<Vec<char>> = patch
        .split_inclusive('\n')
        .map(|line| line.chars().collect())
        .collect();
    for damage in damages {
        let count = lines.len().max(1);
        match damage {
            Damage::Character(at, with) => {
                let line = at % count;
                if let Some(line) = lines.get_mut(line).filter(|line| !line.is_empty()) {
                    let place = at / 7 % line.len();
                    line[place] = *with;
                }
            }
            Damage::DropLine(at) => drop(lines.splice(at % count..(at % count + 1).min(lines.len()), [])),
            Damage::DoubleLine(at) => lines.extend(lines.get(at % count).cloned()),
            Damage::SwapLines(a, b) if !lines.is_empty() => lines.swap(a % count, b % count),
            Damage::SwapLines(..) => {}
            Damage::Cut(at) => lines.truncate(count - at % count.min(9)),
        }
    }
    lines.into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_patches_make_sound_trees_or_none(damages in prop::collection::vec(damage(), 0..4)) {
        let scratch = scratch_of(&SAMPLE.repo);
        let patch = damaged(&SAMPLE.patch, &damages);
        match scratch.apply_patch(&SAMPLE.base, &patch, &ApplyLimits::default()) {
            Ok(applied) => {
                scratch.check_tree(&applied.tree, &Default::default()).unwrap();
            }
            Err(error) => prop_assert!(!damages.is_empty() && error.code().status() < 500, "{error}: {patch}"),
        }
    }
}
