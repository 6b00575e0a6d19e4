//! `mayfly gc` beside a fleet that runs: it says what it would remove, removes it, and leaves what is pinned.

use std::path::Path;
use std::time::{Duration, SystemTime};

use mayfly_testkit::sse::{completed, http_client, read_whole};
use serde_json::{Value, json};

use super::rig::{Rig, get, get_json, post};

const UP: &[&str] = &[
    "up",
    "--port",
    "0",
    "--git-workers",
    "1",
    "--gc-interval",
    "never",
];

/// Makes everything in the storage look as old as this.
fn age(folder: &Path, by: Duration) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => age(&entry.path(), by),
            false => {
                let file = std::fs::File::options().append(true).open(entry.path());
                file.unwrap().set_modified(SystemTime::now() - by).unwrap();
            }
        }
    }
}

async fn gc(rig: &Rig, args: &[&str]) -> (bool, String) {
    let mut running = rig.launch(&[&["gc"], args].concat()).start();
    let status = running.ended().await;
    (status.success(), running.stdout())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_stays_and_what_is_old_goes() {
    let rig = Rig::new();
    let (_up, base) = rig.start(UP).await;
    for session in ["kept", "old"] {
        completed(&read_whole(post(&base, "/clone-repository", &rig.clone_body(session)).await).await);
    }
    let pin = http_client().put(format!("{base}/sessions/kept/pin"));
    let pinned: Value = pin.send().await.unwrap().json().await.unwrap();
    assert_eq!(pinned, json!({"sessionId": "kept", "pinned": true}));
    let absent = http_client().put(format!("{base}/sessions/none/pin"));
    assert_eq!(absent.send().await.unwrap().status(), 404);

    assert_eq!(gc(&rig, &["--dry-run"]).await.1.lines().count(), 1, "all is new");
    age(
        &rig.folder.path().join("storage"),
        Duration::from_secs(8 * 24 * 3600),
    );
    let (_, told) = gc(&rig, &["--dry-run"]).await;
    assert!(
        told.contains("would remove tenants/default/sessions/old/ ("),
        "{told}"
    );
    assert!(told.contains("not used for 8days"), "{told}");
    assert!(!told.contains("sessions/kept"), "{told}");
    assert_eq!(get(&base, "/sessions/old").await.status(), 200);

    let (succeeded, told) = gc(&rig, &["--json"]).await;
    let sums: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert!(
        succeeded && sums["sessions"] == 1 && sums["failed"] == 0,
        "{told}"
    );
    assert_eq!(get(&base, "/sessions/old").await.status(), 404);
    assert_eq!(get_json(&base, "/sessions/kept").await["pinned"], true);
    let listed = get_json(&base, "/sessions").await;
    assert_eq!(
        (&listed["sessions"][0]["pinned"], &listed["sessions"][1]),
        (&json!(true), &Value::Null)
    );
    let (succeeded, _) = gc(&rig, &["--gc-grace", "1m"]).await;
    assert!(!succeeded, "a grace shorter than a job is refused");
    assert_eq!(get(&base, "/sessions/kept/archive").await.status(), 200);
}
