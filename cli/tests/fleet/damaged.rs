//! What is shown of a session whose stored packs are damaged: what it was, whole, or that it is damaged; never anything else.

use std::path::{Path, PathBuf};

use mayfly_testkit::sse::{completed, read_whole};
use serde_json::{Value, json};

use super::rig::{Rig, get, get_json, post};

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "1"];
/// What is asked for: what is of the manifest alone, and what needs packs.
const QUESTIONS: [&str; 5] = ["", "/diff", "/files/README.md", "/files/made.txt", "/archive"];

/// What happens to a file: its new content, or that it is gone.
type Damage = (&'static str, fn(Vec<u8>) -> Option<Vec<u8>>);

const OF_A_PACK: [Damage; 5] = [
    ("flipped bits", |mut bytes| {
        let end = bytes.len() - 20;
        let entries = bytes[14..end].iter_mut().step_by(16);
        entries.for_each(|byte| *byte ^= 0x10);
        Some(bytes)
    }),
    ("cut short", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
    ("longer", |bytes| Some([bytes, vec![0; 64]].concat())),
    ("empty", |_| Some(Vec::new())),
    ("missing", |_| None),
];
const OF_AN_INDEX: [Damage; 2] = [
    ("flipped bit of the index", |mut bytes| {
        bytes[7] ^= 1;
        Some(bytes)
    }),
    ("missing index", |_| None),
];

struct Scene {
    rig: Rig,
    base: String,
    /// The answers to [`QUESTIONS`] when all is well.
    right: Vec<Vec<u8>>,
}

impl Scene {
    /// The files of the session's packs of a kind, with this ending.
    fn files(&self, kind: &str, suffix: &str) -> Vec<PathBuf> {
        let tenant = self.rig.folder.path().join("storage/tenants/default");
        let manifest = std::fs::read(tenant.join("sessions/s/manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let packs = manifest["packs"].as_array().unwrap();
        let packs = packs.iter().filter(|pack| pack["kind"] == kind);
        let names: Vec<_> = packs
            .map(|pack| format!("{}.{suffix}", pack["name"].as_str().unwrap()))
            .collect();
        let mut found = Vec::new();
        below(&tenant, &mut found);
        found.retain(|path| names.iter().any(|name| path.ends_with(name)));
        assert!(!found.is_empty(), "{kind} {suffix}");
        found
    }

    /// Asks everything; gives for each question whether the damage was noticed.
    async fn ask(&self, what: &str) -> Vec<bool> {
        let mut noticed = Vec::new();
        for (question, right) in QUESTIONS.iter().zip(&self.right) {
            let answer = get(&self.base, &format!("/sessions/s{question}")).await;
            let status = answer.status().as_u16();
            let body = answer.bytes().await.unwrap();
            if status == 200 {
                assert_eq!(body, right, "{what}: {question}");
            } else {
                let refusal: Value = serde_json::from_slice(&body).unwrap();
                let found = (status, &refusal["code"], &refusal["retryable"]);
                let expected = (500, &json!("session_damaged"), &json!(false));
                assert_eq!(found, expected, "{what}: {question}: {refusal}");
            }
            noticed.push(status != 200);
        }
        noticed
    }
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => below(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_is_told_by_whatever_needs_what_is_lost() {
    let rig = Rig::new();
    let (_up, base) = rig.start(UP).await;
    let clone = rig.clone_body("s");
    completed(&read_whole(post(&base, "/clone-repository", &clone).await).await);
    let files = json!([{"path": "made.txt", "content": "made\n"}]);
    let changes = json!({"sessionId": "s", "files": files});
    completed(&read_whole(post(&base, "/apply-changes", &changes).await).await);
    let mut right = Vec::new();
    for question in QUESTIONS {
        let answer = get(&base, &format!("/sessions/s{question}")).await;
        assert_eq!(answer.status(), 200, "{question}");
        right.push(answer.bytes().await.unwrap().to_vec());
    }
    let scene = Scene { rig, base, right };
    for kind in ["base", "trees", "job"] {
        let of_pack = OF_A_PACK.iter().map(|damage| ("pack", damage));
        let of_index = OF_AN_INDEX.iter().map(|damage| ("idx", damage));
        for (suffix, (name, damage)) in of_pack.chain(of_index) {
            let what = format!("{kind}: {name}");
            let before: Vec<_> = scene
                .files(kind, suffix)
                .into_iter()
                .map(|path| (std::fs::read(&path).unwrap(), path))
                .collect();
            for (bytes, path) in &before {
                match damage(bytes.clone()) {
                    Some(bytes) => std::fs::write(path, bytes).unwrap(),
                    None => std::fs::remove_file(path).unwrap(),
                }
            }
            let noticed = scene.ask(&what).await;
            // The manifest tells how the session stands; what was made is in the packs of jobs, and all else in what came from the remote.
            let needed = match (kind, *name) {
                // What follows the end is not read where the pack is read by ranges, as it is for one file.
                ("base", "longer") => [false, false, false, false, true],
                // The index says where things are not, too: what another pack has may be looked for in it first.
                ("base", _) if suffix == "idx" => [false, noticed[1], true, noticed[3], true],
                ("base", _) => [false, false, true, false, true],
                ("trees", _) => [false, noticed[1], noticed[2], noticed[3], noticed[4]],
                (_, "longer") => [false, noticed[1], noticed[2], false, true],
                _ => [false, noticed[1], noticed[2], true, true],
            };
            assert_eq!(noticed, needed, "{what}");
            for (bytes, path) in before {
                std::fs::write(path, bytes).unwrap();
            }
            assert!(!scene.ask(&what).await.contains(&true), "{what}: mended");
        }
    }
    let list = get_json(&scene.base, "/sessions").await;
    assert_eq!(list["sessions"][0]["sessionId"], "s");
}
