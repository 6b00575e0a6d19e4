//! What an engine holds, so that the test can say what it left there. This file must not know what the test is about.

use std::collections::BTreeSet;

use super::docker::Docker;

/// What an engine holds, by name, so that what is left can be told.
#[derive(Debug, Default)]
pub(super) struct Holdings(BTreeSet<String>);

impl Holdings {
    /// Everything that there is now.
    pub(super) fn now(docker: &Docker) -> anyhow::Result<Self> {
        let mut all = BTreeSet::new();
        for (what, arguments) in [
            ("container", &["ps", "--all", "--format", "{{.Names}}"][..]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
            ("secret", &["secret", "ls", "--format", "{{.Name}}"]),
            ("config", &["config", "ls", "--format", "{{.Name}}"]),
            ("service", &["service", "ls", "--format", "{{.Name}}"]),
            (
                "image",
                &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"],
            ),
        ] {
            all.extend(
                docker
                    .lines(arguments)?
                    .into_iter()
                    .map(|name| format!("{what} {name}")),
            );
        }
        Ok(Self(all))
    }

    /// What is here and was not there before.
    pub(super) fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}
