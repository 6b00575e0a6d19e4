//! `mayfly gc`, killed at every request that it makes: the next one finishes, and what is in use is as it was.

use std::time::Duration;

use mayfly_protocol::TenantId;
use mayfly_session::SessionStore;
use mayfly_session::gc::GcPolicy;
use mayfly_storage::Precondition;
use mayfly_testkit::chaos_proxy::Seen;
use mayfly_testkit::process::Launch;
use mayfly_testkit::repo::BareRepo;
use mayfly_testkit::s3::clock::dated_later;

use super::ground::{Ground, NAME, State};
use super::jobs;
use super::killed::kill_at;
use super::orphans::{CLOCK, assert_reachable};
use super::session::Found;
use super::trial::{published_with_lfs, request};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The collections of the tests are so far apart; after so many nothing is left to be done.
const STEP: Duration = Duration::from_secs(8 * 24 * 3600);
const COLLECTIONS: u32 = 4;
/// What jobs left behind that died: of a session that never was, of one that is, and of the repository.
const LEFT: [&str; 3] = ["sessions/gone", "sessions/app", "repositories/"];

/// A pinned session, one that nobody has used for long, and what jobs left behind that died.
async fn prepared(ground: &Ground, prefix: &str) {
    for session in [NAME, "old"] {
        let (path, mut body) = jobs::clone_with_lfs(ground);
        body["sessionId"] = session.into();
        ground.done(prefix, path, body).await;
        let (path, mut body) = request(&jobs::in_changes_with_lfs(), ground);
        body["sessionId"] = session.into();
        body["files"][0]["content"] = session.into();
        ground.done(prefix, path, body).await;
    }
    let storage = ground.storage_by_the_clock(prefix).await;
    let sessions = SessionStore::new(storage.clone(), TenantId::default());
    assert!(sessions.pin(&NAME.parse().unwrap()).await.unwrap());
    for (key, content) in ground.objects(prefix).await {
        let Some(end) = [".pack", ".idx"].into_iter().find(|end| key.ends_with(end)) else {
            continue;
        };
        for folder in LEFT {
            let left = match key.split_once("/packs/") {
                Some((owner, _)) if owner.contains(folder) => format!("{owner}/packs/left{end}"),
                _ if folder == "sessions/gone" => format!("tenants/default/{folder}/packs/left{end}"),
                _ => continue,
            };
            let left = left.parse().unwrap();
            let put = storage.put(&left, content.clone().into(), Precondition::None);
            put.await.unwrap();
        }
    }
}

/// A state, and the collection that is killed on it.
struct Killed<'a> {
    ground: &'a Ground,
    bare: &'a BareRepo,
    state: &'a State,
    later: Duration,
}

impl Killed<'_> {
    async fn everywhere(&self, name: &str) {
        let undisturbed = format!("{name}-undisturbed");
        self.ground.lay_out(&undisturbed, self.state, self.bare).await;
        let before = standing(self.ground, &undisturbed).await;
        self.finish(&undisturbed).await;
        let expected = keys(self.ground, &undisturbed).await;
        assert!(expected.len() < keys(self.ground, &format!("{name}-before")).await.len());
        for number in 1.. {
            for after in [false, true] {
                let prefix = format!("{name}-{number}-{after}");
                self.ground.lay_out(&prefix, self.state, self.bare).await;
                let Some(at) = self.once(&prefix, (number, after)).await else {
                    assert!(number > 10, "a collection makes more requests than {number}");
                    return;
                };
                assert_eq!(standing(self.ground, &prefix).await, before, "{at}");
                self.finish(&prefix).await;
                assert_eq!(standing(self.ground, &prefix).await, before, "{at}");
                assert_eq!(keys(self.ground, &prefix).await, expected, "{at}");
                assert_reachable(&self.ground.objects(&prefix).await, &at);
            }
        }
    }

    /// Starts a collection, and kills it at the request of this number; nothing where it ended before.
    async fn once(&self, prefix: &str, (number, after): (u64, bool)) -> Option<String> {
        let launch = Launch::new(env!("CARGO_BIN_EXE_mayfly")).args(["gc", "--json"]);
        let mut collection = self.ground.in_surroundings(launch, prefix).start();
        let id = collection.id();
        let mut date = dated_later(CLOCK, self.later);
        self.ground
            .chaos
            .script(move |seen: &Seen| match seen.number == number {
                true => kill_at(id, after),
                false => date(seen),
            });
        let status = collection.ended().await;
        let seen = self.ground.chaos.seen();
        self.ground.chaos.behave();
        let at = usize::try_from(number).unwrap() - 1;
        let Some(seen) = seen.get(at) else {
            assert_eq!(status.code(), Some(0), "{}", collection.stderr());
            return None;
        };
        assert_eq!(status.code(), None, "the collection outlived its kill");
        Some(format!("killed at request {seen}, after it: {after}"))
    }

    /// Collections that nobody disturbs, until there is nothing more to do.
    async fn finish(&self, prefix: &str) {
        for number in 0..COLLECTIONS {
            let later = self.later + STEP * number;
            self.ground.collect(prefix, (GcPolicy::default(), later)).await;
        }
    }
}

/// The session that is in use, checked.
async fn standing(ground: &Ground, prefix: &str) -> serde_json::Value {
    let found = Found::among(&ground.objects(prefix).await);
    found.expect("the pinned session is there").state()
}

async fn keys(ground: &Ground, prefix: &str) -> Vec<String> {
    let objects = ground.objects(prefix).await;
    objects.into_iter().map(|(key, _)| key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_killed_anywhere_is_taken_up_by_the_next() {
    let ground = Ground::in_a_bucket_with_lfs().await;
    let bare = published_with_lfs(&ground);
    prepared(&ground, "first-before").await;
    let first = Killed {
        ground: &ground,
        bare: &bare,
        state: &ground.take("first-before", &bare).await,
        later: STEP,
    };
    first.everywhere("first").await;
    // What the first one expires and retires is there for the second to remove.
    ground.lay_out("second-before", first.state, &bare).await;
    ground.collect("second-before", (GcPolicy::default(), STEP)).await;
    let second = Killed {
        state: &ground.take("second-before", &bare).await,
        later: STEP + 8 * DAY,
        ..first
    };
    second.everywhere("second").await;
}
