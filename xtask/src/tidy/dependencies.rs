//! Which crate may lean on which: the layers of the workspace, and the libraries that one crate alone may link.
//!
//! A crate depends on crates of lower layers only, so that the picture in `ARCHITECTURE.md` stays true.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::Finding;
use crate::run;

/// The layers, lowest first. Crates of one layer do not know one another.
const LAYERS: &[&[&str]] = &[
    &[
        "mayfly-protocol",
        "mayfly-sandbox",
        "mayfly-telemetry",
        "mayfly-tmp-folder",
    ],
    &[
        "mayfly-sse",
        "mayfly-http",
        "mayfly-queue",
        "mayfly-server",
        "mayfly-storage",
        "mayfly-coordination",
        "mayfly-git-server",
    ],
    &["mayfly-git", "mayfly-naming", "mayfly-worker"],
    &["mayfly-session", "mayfly-lfs"],
    &["mayfly-git-worker", "mayfly-code-worker", "mayfly-gateway"],
    &["mayfly"],
];

/// Pairs that their layers would allow, with the reason why they are not.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "mayfly-gateway",
        "mayfly-git",
        "the gateway never talks to a git host; sessions are read through mayfly-session",
    ),
    (
        "mayfly-gateway",
        "mayfly-lfs",
        "the gateway never talks to a git host",
    ),
    ("mayfly-gateway", "mayfly-naming", "names are made by workers"),
    ("mayfly-gateway", "mayfly-worker", "a gateway takes no job"),
    (
        "mayfly-code-worker",
        "mayfly-git-server",
        "workers are clients of git hosts",
    ),
    (
        "mayfly-git-worker",
        "mayfly-git-server",
        "workers are clients of git hosts",
    ),
];

/// What only tests may depend on.
const TEST_ONLY: &str = "mayfly-testkit";
/// Crates outside of the layers: they depend on what they like, and nothing that is shipped depends on them.
const OUTSIDE: &[&str] = &[TEST_ONLY, "xtask"];
/// The only crate that links a git library.
const GIT_CRATE: &str = "mayfly-git";

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Crate {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

/// A line of its `Cargo.toml`.
#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`; nothing for what the crate itself uses.
    kind: Option<String>,
}

/// Asks cargo for the crates.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Crate>,
    }
    let text = run::output(
        root,
        "cargo",
        &["metadata", "--format-version", "1", "--no-deps", "--offline"],
    )?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("cargo describes the workspace in an unknown form")?;
    let prefix = format!("{}/", root.display());
    let relative = |mut found: Crate| {
        found.manifest_path = found
            .manifest_path
            .strip_prefix(&prefix)
            .unwrap_or(&found.manifest_path)
            .to_owned();
        found
    };
    Ok(metadata.packages.into_iter().map(relative).collect())
}

pub(super) fn check(crates: &[Crate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in crates {
        let layer = layer_of(&krate.name);
        if layer.is_none() && !OUTSIDE.contains(&krate.name.as_str()) {
            let what = format!(
                "`{}` is in no layer: give it its place in `xtask/src/tidy/dependencies.rs`",
                krate.name
            );
            findings.push(Finding::new(&krate.manifest_path, 1, what));
            continue;
        }
        let shipped = krate
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        for dependency in shipped {
            let fault = git_fault(krate, dependency).or_else(|| layer_fault(krate, layer, dependency));
            findings.extend(fault.map(|what| Finding::new(&krate.manifest_path, 1, what)));
        }
    }
    findings
}

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn git_fault(krate: &Crate, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    let is_git_library = name == "git2" || name == "libgit2-sys" || name == "gix" || name.starts_with("gix-");
    let is_fault = is_git_library && krate.name != GIT_CRATE;
    is_fault.then(|| {
        format!(
            "`{}` links `{name}`: only `{GIT_CRATE}` does; use what it offers",
            krate.name
        )
    })
}

fn layer_fault(krate: &Crate, layer: Option<usize>, dependency: &Dependency) -> Option<String> {
    let (from, to) = (krate.name.as_str(), dependency.name.as_str());
    let own = layer?;
    if to == TEST_ONLY {
        return Some(format!("`{from}` ships `{to}`: make it a dev-dependency"));
    }
    let refused = REFUSED.iter().find(|(a, b, _)| *a == from && *b == to);
    if let Some((_, _, why)) = refused {
        return Some(format!("`{from}` depends on `{to}`: {why}"));
    }
    let theirs = layer_of(to)?;
    (theirs >= own).then(|| {
        format!("`{from}` depends on `{to}`, which is not below it: move what both need further down")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<String> {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
        };
        let krate = Crate {
            name: name.to_owned(),
            manifest_path: "x/Cargo.toml".to_owned(),
            dependencies: dependencies.iter().map(dependency).collect(),
        };
        check(&[krate]).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn dependencies_go_down() {
        for (from, to, is_fault) in [
            ("mayfly-sse", "mayfly-protocol", false),
            ("mayfly-protocol", "mayfly-sse", true),
            ("mayfly-protocol", "mayfly-telemetry", true),
            ("mayfly-gateway", "mayfly-session", false),
            ("mayfly-gateway", "mayfly-git", true),
            ("mayfly-git-worker", "mayfly-git", false),
            ("mayfly-git-worker", "mayfly-gateway", true),
            ("mayfly-naming", "mayfly-git", true),
            ("mayfly", "mayfly-gateway", false),
            ("mayfly", "mayfly-testkit", true),
            ("mayfly-session", "git2", true),
            ("mayfly-session", "gix-pack", true),
            ("mayfly-git", "gix-pack", false),
            ("mayfly-session", "gixless", false),
        ] {
            assert_eq!(
                faults(from, &[(to, None)]).len(),
                usize::from(is_fault),
                "{from} on {to}"
            );
        }
        assert_eq!(
            faults(
                "mayfly-gateway",
                &[("mayfly-testkit", Some("dev")), ("git2", Some("dev"))]
            ),
            [""; 0]
        );
        assert_eq!(faults("mayfly-new", &[]).len(), 1);
        assert_eq!(faults("xtask", &[("mayfly-protocol", None)]), [""; 0]);
    }
}
