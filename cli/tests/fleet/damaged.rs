//! What is shown of a session whose stored packs are damaged: what it was, whole, or that it is damaged; never anything else.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_storage::{Key, ObjectStore, Precondition, S3Credentials, StorageOptions};
use mayfly_testkit::process::Launch;
use mayfly_testkit::s3::S3Place;
use mayfly_testkit::sse::{completed, read_whole};
use serde_json::{Value, json};

use super::rig::{Rig, get, get_json, post};
use super::storage::{over_s3, server};

const UP: &[&str] = &["up", "--port", "0", "--git-workers", "1"];
/// What is asked for: what is of the manifest alone, and what needs packs.
const QUESTIONS: [&str; 5] = ["", "/diff", "/files/README.md", "/files/made.txt", "/archive"];

const MAX_OBJECT_BYTES: u64 = 1 << 20;

/// What happens to an object: its new content, or that it is gone.
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
    base: String,
    storage: Arc<dyn ObjectStore>,
    /// The answers to [`QUESTIONS`] when all is well.
    right: Vec<Bytes>,
}

impl Scene {
    async fn read(&self, key: &Key) -> Bytes {
        self.storage.get(key, MAX_OBJECT_BYTES).await.unwrap().bytes
    }

    async fn write(&self, key: &Key, bytes: impl Into<Bytes>) {
        let body = bytes.into().into();
        self.storage.put(key, body, Precondition::None).await.unwrap();
    }

    /// The objects of the session's packs of a kind, with this ending.
    async fn objects(&self, kind: &str, suffix: &str) -> Vec<Key> {
        let manifest = "tenants/default/sessions/s/manifest.json".parse().unwrap();
        let manifest: Value = serde_json::from_slice(&self.read(&manifest).await).unwrap();
        let packs = manifest["packs"].as_array().unwrap();
        let packs = packs.iter().filter(|pack| pack["kind"] == kind);
        let names: Vec<_> = packs
            .map(|pack| format!("/{}.{suffix}", pack["name"].as_str().unwrap()))
            .collect();
        let all = self.storage.list("tenants/default/").await.unwrap();
        let mut found: Vec<_> = all.into_iter().map(|meta| meta.key).collect();
        found.retain(|key| names.iter().any(|name| key.as_str().ends_with(name)));
        assert!(!found.is_empty(), "{kind} {suffix}");
        found
    }

    /// Damages the packs of a kind, asks everything, and mends them.
    async fn damage(&self, kind: &str, suffix: &str, name: &str, damage: fn(Vec<u8>) -> Option<Vec<u8>>) {
        let what = format!("{kind}: {name}");
        let mut before = Vec::new();
        for key in self.objects(kind, suffix).await {
            let bytes = self.read(&key).await;
            match damage(bytes.to_vec()) {
                Some(damaged) => self.write(&key, damaged).await,
                None => self.storage.delete(&key).await.unwrap(),
            }
            before.push((key, bytes));
        }
        let noticed = self.ask(&what).await;
        // The manifest tells how the session stands; what was made is in the packs of jobs, and all else in what came from the remote.
        let needed = match (kind, name) {
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
        for (key, bytes) in before {
            self.write(&key, bytes).await;
        }
        assert!(!self.ask(&what).await.contains(&true), "{what}: mended");
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

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_in_a_folder_is_told_by_whatever_needs_what_is_lost() {
    let rig = Rig::new();
    let url = format!("file://{}/storage", rig.folder.path().display());
    let launch = rig.launch(UP);
    every_damage_is_told(&rig, launch, &url, StorageOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_in_a_bucket_is_told_by_whatever_needs_what_is_lost() {
    let rig = Rig::new();
    let place = server(S3Place::moto);
    let url = place.fresh_url();
    let mut options = StorageOptions::default();
    options.s3.endpoint = Some(place.endpoint.clone());
    options.s3.region = Some("us-east-1".to_owned());
    options.s3.credentials = Some(S3Credentials {
        access_key_id: place.access_key_id.clone(),
        secret_access_key: place.secret_access_key.clone().into(),
    });
    every_damage_is_told(&rig, over_s3(&rig, place, &url, UP), &url, options).await;
}

async fn every_damage_is_told(rig: &Rig, up: Launch, url: &str, options: StorageOptions) {
    let mut up = up.start();
    let line = up.line_on_stdout("listening on ").await;
    let base = format!("http://{}", line.rsplit(' ').next().unwrap());
    let clone = rig.clone_body("s");
    completed(&read_whole(post(&base, "/clone-repository", &clone).await).await);
    let files = json!([{"path": "made.txt", "content": "made\n"}]);
    let changes = json!({"sessionId": "s", "files": files});
    completed(&read_whole(post(&base, "/apply-changes", &changes).await).await);
    let mut right = Vec::new();
    for question in QUESTIONS {
        let answer = get(&base, &format!("/sessions/s{question}")).await;
        assert_eq!(answer.status(), 200, "{question}");
        right.push(answer.bytes().await.unwrap());
    }
    let storage = mayfly_storage::open(&url.parse().unwrap(), &options)
        .await
        .unwrap();
    let scene = Scene { base, storage, right };
    for kind in ["base", "trees", "job"] {
        let of_pack = OF_A_PACK.iter().map(|damage| ("pack", damage));
        let of_index = OF_AN_INDEX.iter().map(|damage| ("idx", damage));
        for (suffix, (name, damage)) in of_pack.chain(of_index) {
            scene.damage(kind, suffix, name, *damage).await;
        }
    }
    let list = get_json(&scene.base, "/sessions").await;
    assert_eq!(list["sessions"][0]["sessionId"], "s");
}
