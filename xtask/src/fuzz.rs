//! `cargo xtask fuzz`: feeds the parsers of outside bytes what a fuzzer makes up, for a short while or a long one.
//!
//! The targets stand in `fuzz/`, a workspace of its own that is built with instrumentation. It gets the lock file of this workspace first, so that
//! what is tried is what is shipped. This file must not know what the targets try.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{run, suite};

/// Where the targets are.
const FOLDER: &str = "fuzz";
const SHORT_SECONDS: u32 = 3;
/// Seconds for one input: more is a finding.
const INPUT_SECONDS: u32 = 10;
/// Memory of a target, in MiB: more is a finding.
const MEMORY_MIB: u32 = 2048;

/// What is tried, and for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct FuzzArgs {
    /// Seconds for each target.
    #[arg(long, default_value_t = SHORT_SECONDS)]
    seconds: u32,
    /// The targets, by name; without any, all of them.
    targets: Vec<String>,
}

impl FuzzArgs {
    /// As part of all checks.
    pub(crate) fn short() -> Self {
        Self {
            seconds: SHORT_SECONDS,
            targets: Vec::new(),
        }
    }
}

/// Builds the targets and runs them one after the other. True if there was no finding.
pub(crate) fn run(root: &Path, args: &FuzzArgs) -> anyhow::Result<bool> {
    let known = targets(root)?;
    if let Some(unknown) = args.targets.iter().find(|name| !known.contains(name)) {
        bail!("`{unknown}` is no target; there are {}", known.join(", "));
    }
    let program = program(root)?;
    let folder = root.join(FOLDER);
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).context("the lock file cannot be copied")?;
    let start = |arguments: &[&str]| run::succeeds(&folder, &program, arguments, &[]);
    let common = [
        "--fuzz-dir",
        ".",
        "--sanitizer",
        "none",
        "--target-dir",
        "../target/fuzz",
    ];
    if !start(&[&["fuzz", "build"][..], &common].concat())? {
        return Ok(false);
    }
    let wanted = if args.targets.is_empty() {
        &known
    } else {
        &args.targets
    };
    let mut all_good = true;
    for name in wanted {
        let (corpus, seeds) = (format!("corpus/{name}"), format!("seeds/{name}"));
        fs::create_dir_all(folder.join(&corpus))?;
        let limits = [
            format!("-max_total_time={}", args.seconds),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            "-verbosity=0".to_owned(),
        ];
        let mut arguments = [&["fuzz", "run"][..], &common, &[name, &corpus, &seeds, "--"]].concat();
        arguments.extend(limits.iter().map(String::as_str));
        let is_good = start(&arguments)?;
        run::say(&format!(
            "xtask: fuzzing {name}: {}",
            if is_good { "ok" } else { "a finding" }
        ));
        all_good &= is_good;
    }
    Ok(all_good)
}

/// The names of the targets, in order.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(FOLDER).join("targets")).context("there are no targets")? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.push(name.context("a target has a name")?.to_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// `cargo-fuzz`, as `.ci/tools.sh` installs it.
fn program(root: &Path) -> anyhow::Result<String> {
    let path: PathBuf = suite::tools(root).join("cargo-fuzz/bin/cargo-fuzz");
    if !path.exists() {
        bail!("{} is missing; run `.ci/tools.sh` once", path.display());
    }
    let text = path.canonicalize()?.to_str().map(str::to_owned);
    text.context("the path of the tools is not UTF-8")
}
