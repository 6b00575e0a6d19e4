//! Bare repositories, as the git host serves them.

use std::ops::Deref;
use std::path::Path;

use mayfly_git_server::init_bare;

use super::{GitFolder, TestRepo};
use crate::git;

/// A bare repository below the root of a host. It gives the answers of a [`GitFolder`] too.
#[derive(Debug, Clone)]
pub struct BareRepo {
    questions: GitFolder,
}

impl BareRepo {
    /// Makes the empty `<root>/<name>.git`.
    pub fn init(root: &Path, name: &str, head: &str) -> Self {
        let folder = init_bare(root, name, head).expect("a bare repository can be made");
        Self {
            questions: GitFolder::at(folder),
        }
    }

    /// Sets a value of the repository's configuration.
    pub fn set_config(&self, key: &str, value: &str) -> &Self {
        self.text(&["config", key, value]);
        self
    }

    /// Installs a hook: a shell script without its first line.
    pub fn install_hook(&self, hook: &str, script: &str) -> &Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = self.path().join("hooks");
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let file = folder.join(hook);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("the hook can be written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&file, mode).expect("the mode can be set");
        self
    }

    /// Refuses every push with these words, as a policy hook does.
    pub fn reject_pushes(&self, words: &str) -> &Self {
        let quoted = words.replace('\'', r"'\''");
        self.install_hook("pre-receive", &format!("printf '%s\\n' '{quoted}' >&2\nexit 1"))
    }

    /// Refuses pushes to an existing branch as GitHub's branch protection does, and lets all others pass.
    pub fn protect(&self, branch: &str) -> &Self {
        let script = format!(
            "while read old new ref; do\n\
             if [ \"$ref\" = 'refs/heads/{branch}' ] && [ \"$old\" != 0000000000000000000000000000000000000000 ]; then\n\
             echo 'GH006: Protected branch update failed for refs/heads/{branch}.' >&2; exit 1\n\
             fi\ndone"
        );
        self.install_hook("pre-receive", &script)
    }

    /// Adds a commit with one changed file to a branch, as somebody else would, and gives its id.
    #[track_caller]
    pub fn commit_behind_their_back(&self, branch: &str, path: &str, content: &str) -> String {
        let url = self
            .path()
            .to_str()
            .expect("a temporary folder is UTF-8")
            .to_owned();
        let clone =
            super::try_clone(&url, None, &["--branch", branch]).unwrap_or_else(|said| panic!("{said}"));
        clone.write(path, content);
        self.take(&clone, branch)
    }

    fn take(&self, clone: &TestRepo, branch: &str) -> String {
        let id = clone.commit("Somebody else's change");
        git::stdout(git::command(clone.path()).args(["push", "--quiet", "origin", branch]));
        id
    }
}

impl Deref for BareRepo {
    type Target = GitFolder;
    fn deref(&self) -> &GitFolder {
        &self.questions
    }
}
