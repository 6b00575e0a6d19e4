//! What a collection of garbage leaves when nothing runs: what a manifest names, what new clones are told of, outcomes and notes, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use mayfly_session::gc::{Gc, GcPolicy};
use mayfly_testkit::s3::clock::dated_later;
use serde_json::Value;

use super::ground::Ground;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The object by which a collection asks the storage for its time.
pub(super) const CLOCK: &str = "gc/last-run.json";
/// What new clones are told of, of which only what is to be removed may be missing.
const KNOWN: &str = "/known.json";

/// Sessions stay as long as nobody deletes them: all that goes is what nothing names.
fn policy() -> GcPolicy {
    GcPolicy {
        session_ttl: None,
        outcome_retention: None,
        ..GcPolicy::default()
    }
}

impl Ground {
    /// Runs a collection so long after now by the clock of the server; it must fail at nothing.
    pub(super) async fn collect(&self, prefix: &str, (policy, later): (GcPolicy, Duration)) {
        self.clock.script(dated_later(CLOCK, later));
        let storage = self.storage_by_the_clock(prefix).await;
        let mut told = Vec::new();
        let gc = Gc::new(storage, policy).unwrap();
        let sums = gc.run(&mut |line| told.push(line.clone())).await.unwrap();
        assert_eq!(sums.failed, 0, "{prefix}: {told:?}");
    }

    /// Collects all that can be when nothing runs: packs of repositories are retired first, and contents of Git LFS wait for the end of a week.
    /// What is left is reachable.
    pub(super) async fn assert_no_orphans(&self, prefix: &str, at: &str) {
        for later in [8 * DAY, 16 * DAY] {
            self.collect(prefix, (policy(), later)).await;
        }
        assert_reachable(&self.objects(prefix).await, at);
        let unfinished = self.storage_by_the_clock(prefix).await.unfinished().await;
        assert_eq!(unfinished.unwrap(), vec![], "{at}");
    }
}

/// Every object is one that something names, and all that is named is there.
#[track_caller]
pub(super) fn assert_reachable(objects: &[(String, Bytes)], at: &str) {
    let mut named = BTreeSet::new();
    for (key, content) in objects {
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        if key.ends_with("/manifest.json") {
            of_manifest(&json(content), folder, objects, &mut named);
        } else if key.ends_with(KNOWN) {
            of_known(&json(content), folder, &mut named);
        }
    }
    let there: BTreeSet<String> = objects.iter().map(|(key, _)| key.clone()).collect();
    let is_of_its_own = |key: &&String| {
        let is_document = [KNOWN, "/manifest.json"].iter().any(|end| key.ends_with(end));
        let is_note = key.starts_with("mayfly-probe/") || *key == CLOCK;
        is_document || is_note || key.contains("/jobs/") || key.contains("/pins/")
    };
    let orphans: Vec<_> = there
        .difference(&named)
        .filter(|key| !is_of_its_own(key))
        .collect();
    assert!(orphans.is_empty(), "{at}: nothing names {orphans:?}");
    let lost: Vec<_> = named.difference(&there).collect();
    assert!(lost.is_empty(), "{at}: {lost:?} are named, and gone");
}

fn json(content: &[u8]) -> Value {
    serde_json::from_slice(content).unwrap()
}

/// The folder of a session is `tenants/<tenant>/sessions/<session>`; that of its repository is found by what lies in it.
fn of_manifest(manifest: &Value, folder: &str, objects: &[(String, Bytes)], named: &mut BTreeSet<String>) {
    let tenant = folder.split_once("/sessions/").unwrap().0;
    let repositories = format!("{tenant}/repositories/");
    let full_key = |end: &str| {
        let mut keys = objects.iter().map(|(key, _)| key);
        let found = keys.find(|key| key.starts_with(&repositories) && key.ends_with(end));
        found.cloned().unwrap_or_else(|| format!("{repositories}?{end}"))
    };
    let intended = manifest["intent"]["packs"].as_array();
    let packs = manifest["packs"].as_array().into_iter().chain(intended);
    for pack in packs.flatten() {
        let name = pack["name"].as_str().unwrap();
        // A mark beside a pack that is listed means nothing, and goes with the pack: a save that folds writes marks before its swap.
        let mark = format!("{folder}/packs/{name}.replaced");
        named.extend(
            objects
                .iter()
                .map(|(key, _)| key)
                .find(|key| **key == mark)
                .cloned(),
        );
        for suffix in ["pack", "idx"] {
            named.insert(match pack["scope"].as_str() {
                Some("session") => format!("{folder}/packs/{name}.{suffix}"),
                _ => full_key(&format!("/packs/{name}.{suffix}")),
            });
        }
    }
    for list in manifest["lfs"]["lists"].as_array().into_iter().flatten() {
        let (week, hash) = (&list["week"], list["hash"].as_str().unwrap());
        let key = full_key(&format!("/lfs/{week}/lists/{hash}.json"));
        let content = objects.iter().find(|(found, _)| *found == key);
        for entry in content
            .map(|(_, content)| json(content)["objects"].clone())
            .iter()
        {
            for entry in entry.as_array().unwrap() {
                let (week, oid) = (&entry["week"], entry["oid"].as_str().unwrap());
                named.insert(full_key(&format!("/lfs/{week}/contents/{oid}")));
            }
        }
        named.insert(key);
    }
}

fn of_known(known: &Value, folder: &str, named: &mut BTreeSet<String>) {
    let packs = known["packs"].as_array().into_iter().flatten();
    let tips = known["tips"].as_object().into_iter().flatten();
    let trees = tips.map(|(_, tip)| &tip["trees"]);
    for pack in packs.chain(trees) {
        let name = pack["name"].as_str().unwrap();
        for suffix in ["pack", "idx"] {
            named.insert(format!("{folder}/packs/{name}.{suffix}"));
        }
    }
}
