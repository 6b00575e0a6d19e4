//! The note that a store passed the probe, kept in the store itself, so that a worker that starts for every job need not race.
//!
//! It names the place by a hash, since a bucket that is copied to another server takes its notes along, and the time, since servers are
//! replaced by others. It protects against mistakes and not against malice: who can write it can write everything else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::error::Elapsed;

use super::{MAX_PROBE_BYTES, ProbeError};
use crate::digest::ContentHash;
use crate::error::Subject;
use crate::{InvalidKey, Key, ObjectStore, Operation, Precondition, StorageError};

/// How long a note spares the race.
const FRESH_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How far the clock of the one who wrote it may be ahead.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
const KEY: &str = "mayfly-probe/passed";
const FORMAT: &str = "mayfly-probe-1";

/// Whether the store holds a fresh note for this place. What cannot be read as a note is none.
pub(crate) async fn is_noted(
    store: &dyn ObjectStore,
    place: &str,
    now: SystemTime,
) -> Result<bool, ProbeError> {
    match store.get(&key()?, MAX_PROBE_BYTES).await {
        Ok(object) => Ok(std::str::from_utf8(&object.bytes).is_ok_and(|text| is_fresh(text, place, now))),
        Err(StorageError::NotFound { .. } | StorageError::TooLarge { .. }) => Ok(false),
        Err(error) => Err(ProbeError::Storage(error)),
    }
}

/// Notes that the store has just passed; of several writers any may win.
pub(crate) async fn note(store: &dyn ObjectStore, place: &str, now: SystemTime) -> Result<(), ProbeError> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = format!("{FORMAT} {} {seconds}\n", ContentHash::of(place.as_bytes()));
    let written = store
        .put(&key()?, text.into_bytes().into(), Precondition::None)
        .await;
    written.map(drop).map_err(ProbeError::Storage)
}

/// That the store did not answer in time.
pub(crate) fn unavailable(elapsed: Elapsed) -> ProbeError {
    ProbeError::Storage(Subject::of_prefix(Operation::Get, KEY).unavailable(elapsed))
}

fn key() -> Result<Key, ProbeError> {
    Key::new(KEY).map_err(|invalid: InvalidKey| {
        ProbeError::Storage(Subject::of_prefix(Operation::Get, KEY).unavailable(invalid))
    })
}

fn is_fresh(text: &str, place: &str, now: SystemTime) -> bool {
    let mut words = text.split_whitespace();
    if words.next() != Some(FORMAT) || words.next() != Some(&ContentHash::of(place.as_bytes()).to_string()) {
        return false;
    }
    let Some(seconds) = words.next().and_then(|word| word.parse().ok()) else {
        return false;
    };
    let Some(noted) = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) else {
        return false;
    };
    match now.duration_since(noted) {
        Ok(age) => age <= FRESH_FOR,
        Err(ahead) => ahead.duration() <= CLOCK_SKEW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn a_note_counts_for_its_place_and_its_time() {
        let (store, now) = (MemoryStore::new(), SystemTime::now());
        assert!(!is_noted(&store, "here", now).await.unwrap());
        note(&store, "here", now).await.unwrap();
        assert!(is_noted(&store, "here", now).await.unwrap());
        assert!(!is_noted(&store, "there", now).await.unwrap());
        for (later, expected) in [(FRESH_FOR / 2, true), (FRESH_FOR + Duration::from_secs(2), false)] {
            assert_eq!(is_noted(&store, "here", now + later).await.unwrap(), expected);
        }
        for (earlier, expected) in [(CLOCK_SKEW / 2, true), (CLOCK_SKEW * 2, false)] {
            assert_eq!(is_noted(&store, "here", now - earlier).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_no_note_is_none() {
        let (store, now) = (MemoryStore::new(), SystemTime::now());
        note(&store, "here", now).await.unwrap();
        let good = store.get(&key().unwrap(), MAX_PROBE_BYTES).await.unwrap().bytes;
        let good = String::from_utf8(good.into()).unwrap();
        let huge = "x".repeat(2000);
        let no_time = good.trim_end().rsplit_once(' ').unwrap().0;
        let far = format!("{no_time} {}", u64::MAX);
        for text in ["", "\u{0}", &huge, no_time, &far, &good.replace("-1 ", "-2 ")] {
            let body = text.as_bytes().to_vec().into();
            store
                .put(&key().unwrap(), body, Precondition::None)
                .await
                .unwrap();
            assert!(!is_noted(&store, "here", now).await.unwrap(), "{text:?}");
        }
    }
}
