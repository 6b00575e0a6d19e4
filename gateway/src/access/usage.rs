//! What each key uses of its limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mayfly_protocol::{ErrorCode, Refusal};
use tokio::time::Instant;

use super::bucket::Bucket;
use super::caller::{Caller, KeyId};
use super::key_file::KeyRing;

/// A stream ends when its job does, or when its reader goes, which nobody can foretell.
const STREAM_RETRY_AFTER_SECS: u64 = 5;

/// What each key uses. Keys are as many as the file has lines, so this is bounded.
#[derive(Debug, Default)]
pub(super) struct Usages(Mutex<HashMap<KeyId, Usage>>);

#[derive(Debug)]
struct Usage {
    requests: Bucket,
    /// Held here once, and once more by each open stream.
    streams: Arc<()>,
}

/// A place among a key's open streams, given back when it is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamPass {
    _counted: Option<Arc<()>>,
}

impl Usages {
    pub(super) fn count_request(&self, caller: &Caller, now: Instant) -> Result<(), Refusal> {
        let (Some(key), Some(per_minute)) = (&caller.key, caller.limits.requests_per_minute) else {
            return Ok(());
        };
        let taken = usage(&mut self.lock(), key, now).requests.take(per_minute, now);
        taken.map_err(|wait| {
            let text = format!("the key `{key}` may send {per_minute} requests a minute; come back later");
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Refusal::new(ErrorCode::RateLimited, text).with_retry_after(seconds)
        })
    }

    pub(super) fn stream(&self, caller: &Caller) -> Result<StreamPass, Refusal> {
        let (Some(key), Some(most)) = (&caller.key, caller.limits.streams) else {
            return Ok(StreamPass::default());
        };
        let mut usages = self.lock();
        let streams = &usage(&mut usages, key, Instant::now()).streams;
        if Arc::strong_count(streams) > most.get() as usize {
            let text = format!(
                "the key `{key}` may have {most} streams open; close one of them, or come back later"
            );
            return Err(Refusal::new(ErrorCode::RateLimited, text).with_retry_after(STREAM_RETRY_AFTER_SECS));
        }
        Ok(StreamPass {
            _counted: Some(Arc::clone(streams)),
        })
    }

    /// Forgets keys that are no more.
    pub(super) fn forget_all_but(&self, ring: &KeyRing) {
        self.lock().retain(|key, _| ring.knows(key));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, Usage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn usage<'a>(usages: &'a mut HashMap<KeyId, Usage>, key: &KeyId, now: Instant) -> &'a mut Usage {
    // Not by `entry`: it would clone the key with each request.
    if !usages.contains_key(key) {
        let usage = Usage {
            requests: Bucket::new(now),
            streams: Arc::default(),
        };
        usages.insert(key.clone(), usage);
    }
    usages.get_mut(key).expect("it was put there just now")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::access::CallerLimits;

    fn caller(key: &str, limits: CallerLimits) -> Caller {
        Caller {
            key: Some(key.parse().unwrap()),
            limits,
            ..Caller::local()
        }
    }

    #[test]
    fn streams_are_counted_by_key_and_given_back() {
        let usages = Usages::default();
        let limits = CallerLimits {
            streams: NonZeroU32::new(2),
            ..CallerLimits::default()
        };
        let (one, other) = (caller("a", limits), caller("b", limits));
        let held = [usages.stream(&one).unwrap(), usages.stream(&one).unwrap()];
        let refused = usages.stream(&one).unwrap_err();
        assert_eq!(
            (refused.code, refused.retry_after),
            (ErrorCode::RateLimited, Some(5))
        );
        assert!(usages.stream(&other).is_ok());
        assert!(usages.stream(&caller("a", CallerLimits::default())).is_ok());
        drop(held);
        assert!(usages.stream(&one).is_ok());
    }

    #[test]
    fn requests_are_counted_by_key_and_told_when_to_come_back() {
        let usages = Usages::default();
        let limits = CallerLimits {
            requests_per_minute: NonZeroU32::new(40),
            ..CallerLimits::default()
        };
        let (one, other, now) = (caller("a", limits), caller("b", limits), Instant::now());
        let through = (0..100)
            .filter(|_| usages.count_request(&one, now).is_ok())
            .count();
        assert_eq!(through, 40);
        let refused = usages.count_request(&one, now).unwrap_err();
        // A token is there after 1.5 seconds: told in whole seconds, and never too early.
        assert_eq!(
            (refused.code, refused.retry_after),
            (ErrorCode::RateLimited, Some(2))
        );
        assert!(usages.count_request(&other, now).is_ok());
    }
}
