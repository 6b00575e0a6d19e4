//! What a session in the storage is, as plain git sees it: its packs in an empty repository, and everything that it names checked.

use bytes::Bytes;
use mayfly_testkit::git;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::ground::NAME;

/// A session as it was found.
pub(super) struct Found {
    manifest: Value,
}

impl Found {
    /// Finds the session among all objects of a storage, and has git check it; none where there is none.
    pub(super) fn among(objects: &[(String, Bytes)]) -> Option<Self> {
        let key = format!("/sessions/{NAME}/manifest.json");
        let stored = objects.iter().find(|(found, _)| found.ends_with(&key))?;
        let manifest: Value = serde_json::from_slice(&stored.1).unwrap();
        let found = Self { manifest };
        found.check(objects);
        Some(found)
    }

    /// What a job may change of a session, beside the order of things.
    pub(super) fn state(&self) -> Value {
        let field = |name: &str| self.manifest[name].clone();
        json!([
            field("generation"),
            field("branch"),
            field("head"),
            field("upstream"),
            field("worktree"),
            field("refs"),
        ])
    }

    pub(super) fn generation(&self) -> u64 {
        self.manifest["generation"].as_u64().unwrap()
    }

    /// Whether a push was announced and not settled.
    pub(super) fn has_intent(&self) -> bool {
        !self.manifest["intent"].is_null()
    }

    /// Every object that the head and the worktree reach is in the packs of the manifest, and every pack is sound.
    fn check(&self, objects: &[(String, Bytes)]) {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("objects/pack");
        for made in [&packs, &folder.path().join("refs")] {
            std::fs::create_dir_all(made).unwrap();
        }
        std::fs::write(folder.path().join("HEAD"), "ref: refs/heads/none\n").unwrap();
        for pack in self.manifest["packs"].as_array().unwrap() {
            let hash = pack["hash"].as_str().unwrap();
            let stem = pack["name"].as_str().unwrap();
            for suffix in ["pack", "idx"] {
                let name = format!("/packs/{stem}.{suffix}");
                let stored = objects.iter().find(|(key, _)| key.ends_with(&name));
                let (_, content) = stored.unwrap_or_else(|| panic!("{name} is not there"));
                std::fs::write(packs.join(format!("pack-{hash}.{suffix}")), content).unwrap();
            }
        }
        self.fsck(&folder);
    }

    fn fsck(&self, folder: &TempDir) {
        let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let named = [&self.manifest["head"], &self.manifest["worktree"]].map(Value::as_str);
        let roots: Vec<&str> = named.into_iter().flatten().filter(|id| *id != empty).collect();
        let arguments = ["fsck", "--strict", "--full", "--no-dangling", "--no-progress"];
        git::text(git::command(folder.path()).args(arguments).args(roots));
    }
}
