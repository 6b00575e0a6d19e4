//! Everything that a change has to pass, in the order of how fast it fails.
//!
//! All steps are run even where one fails, so that one run shows all there is to mend. This file must not know the rules themselves.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use crate::fuzz::{self, FuzzArgs};
use crate::{run, tidy};

type Step = (&'static str, fn(&Path) -> anyhow::Result<bool>);

const STEPS: &[Step] = &[
    ("tidy", tidy::run),
    ("formatting", |root| {
        cargo(root, &["fmt", "--all", "--check"], &[])
    }),
    ("tools for the tests", install_tools),
    ("lints", |root| {
        cargo(
            root,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
            &[],
        )
    }),
    ("docs", |root| {
        cargo(
            root,
            &["doc", "--workspace", "--no-deps", "--locked"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        )
    }),
    ("tests", run_cargo_tests),
    ("fuzzing", |root| fuzz::run(root, &FuzzArgs::short())),
];

/// Runs every step. True if all of them ended well.
pub(crate) fn run_all(root: &Path) -> anyhow::Result<bool> {
    run_steps(root, STEPS)
}

/// Runs the tests alone.
pub(crate) fn run_tests(root: &Path) -> anyhow::Result<bool> {
    run_steps(root, &[("tests", run_cargo_tests)])
}

fn run_steps(root: &Path, steps: &[Step]) -> anyhow::Result<bool> {
    let mut lines = Vec::new();
    let mut all_good = true;
    for (name, step) in steps {
        run::say(&format!("xtask: {name}"));
        let start = Instant::now();
        let is_good = step(root)?;
        all_good &= is_good;
        let verdict = if is_good { "ok" } else { "FAILED" };
        lines.push(format!(
            "xtask: {name}: {verdict} ({:.1} s)",
            start.elapsed().as_secs_f32()
        ));
    }
    for line in lines {
        run::say(&line);
    }
    Ok(all_good)
}

fn install_tools(root: &Path) -> anyhow::Result<bool> {
    run::succeeds(root, "bash", &[".ci/tools.sh"], &[])
}

/// Cargo's own runner, since a newcomer has it. It goes on after a failure, so that every summary line shows.
fn run_cargo_tests(root: &Path) -> anyhow::Result<bool> {
    let _held = keep_shared_servers(root)?;
    cargo(root, &["test", "--workspace", "--locked", "--no-fail-fast"], &[])
}

/// The lock that keeps the Ceph cluster of the tests running from one test process to the next (`shared/testkit/src/s3/ceph.rs`).
fn keep_shared_servers(root: &Path) -> anyhow::Result<File> {
    let path = tools(root).join("ceph.users");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot make {}; run `.ci/tools.sh` once", path.display()))?;
    file.lock_shared()?;
    Ok(file)
}

/// The folder of the programs that `.ci/tools.sh` installs.
pub(crate) fn tools(root: &Path) -> PathBuf {
    root.join(std::env::var_os("MAYFLY_TOOLS").unwrap_or_else(|| "target/tools".into()))
}

fn cargo(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<bool> {
    run::succeeds(root, "cargo", arguments, variables)
}
