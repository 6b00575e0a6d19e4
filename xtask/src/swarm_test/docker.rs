//! The `docker` program. This file must not know what the test is about.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::run::{self, Ended};

const PROGRAM: &str = "docker";

/// Runs `docker` in the workspace's folder.
#[derive(Debug, Clone)]
pub(super) struct Docker {
    root: PathBuf,
    variables: Vec<(String, String)>,
}

impl Docker {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            // The old builder is the one that every engine has.
            variables: vec![("DOCKER_BUILDKIT".to_owned(), "0".to_owned())],
        }
    }

    /// The same, with more variables in its environment.
    pub(super) fn with(&self, variables: &[(&str, String)]) -> Self {
        let mut all = self.variables.clone();
        all.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        Self {
            root: self.root.clone(),
            variables: all,
        }
    }

    /// Runs it, and says how it went.
    pub(super) fn attempt(&self, arguments: &[&str], input: &str) -> anyhow::Result<Ended> {
        run::capture(&self.root, PROGRAM, arguments, &self.variables, input)
    }

    /// Runs it, and gives what it wrote, without the last line's end.
    pub(super) fn text(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.fed(arguments, "")
    }

    /// The same, with a text for its standard input.
    pub(super) fn fed(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let ended = self.attempt(arguments, input)?;
        if !ended.is_good {
            bail!(
                "`docker {}` failed: {}",
                arguments.join(" "),
                last_lines(&ended.stderr, &ended.stdout)
            );
        }
        Ok(ended.stdout.trim_end().to_owned())
    }

    /// The lines of what it wrote.
    pub(super) fn lines(&self, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let text = self.text(arguments)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// What it wrote, as JSON.
    pub(super) fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.text(arguments)?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "`docker {}` writes something that is not JSON",
                arguments.join(" ")
            )
        })
    }

    /// Starts one that goes on writing lines.
    pub(super) fn follow(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        run::start(&self.root, PROGRAM, arguments, Stdio::piped(), Stdio::null())
    }

    /// The ids of the running containers of a service, or of a whole stack.
    pub(super) fn containers(&self, label: &str) -> anyhow::Result<Vec<String>> {
        self.lines(&[
            "ps",
            "--quiet",
            "--no-trunc",
            "--filter",
            &format!("label={label}"),
        ])
    }
}

/// Where a program says what went wrong.
fn last_lines(stderr: &str, stdout: &str) -> String {
    let text = if stderr.trim().is_empty() { stdout } else { stderr };
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
