//! Bodies of jobs that are not over, sealed so that a gateway of the same fleet can open them, and nobody else: they hold credentials.
//!
//! This module must not know where it is kept.

use std::fmt;
use std::num::NonZeroU32;

use bytes::Bytes;
use mayfly_protocol::{ExposeSecret as _, JobId, SecretString, TenantId};
use mayfly_queue::{Terms, Weight};
use serde::{Deserialize, Serialize};

use crate::sealing::{Place, Purpose};

/// The most keys at the same time: the one in use, and its successor or predecessor.
const MAX_KEYS: usize = 2;
/// The least characters of a key; 32 random bytes have 43 in base64 and 64 in hexadecimal.
const MIN_KEY_CHARS: usize = 32;

/// The keys of a fleet for bodies of jobs that are not over: the first seals, any opens.
#[derive(Clone)]
pub struct WaitingJobsKeys(Vec<SecretString>);

/// A setting is no list of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWaitingJobsKeys {
    /// A key is too short to be random.
    #[error("has fewer than {MIN_KEY_CHARS} characters; make one with `openssl rand -hex 32`")]
    TooShort,
    /// There are too many.
    #[error("has more than {MAX_KEYS} keys; the one in use and its successor are enough")]
    TooMany,
}

/// What a job needs to be begun by another gateway.
#[derive(Clone)]
pub(crate) struct KeptJob {
    pub(crate) terms: Terms,
    pub(crate) body: Bytes,
}

/// What stands before the body, as one line of JSON.
#[derive(Serialize, Deserialize)]
struct Head {
    weight: Weight,
    running: Option<NonZeroU32>,
    waiting: Option<NonZeroU32>,
}

impl WaitingJobsKeys {
    /// Reads one key, or two with a comma between them.
    pub fn parse(list: &SecretString) -> Result<Self, InvalidWaitingJobsKeys> {
        let keys: Vec<&str> = list.expose_secret().split(',').map(str::trim).collect();
        if keys.len() > MAX_KEYS {
            return Err(InvalidWaitingJobsKeys::TooMany);
        }
        if keys.iter().any(|key| key.len() < MIN_KEY_CHARS) {
            return Err(InvalidWaitingJobsKeys::TooShort);
        }
        let secret = |key: &str| SecretString::from(key.to_owned());
        Ok(Self(keys.into_iter().map(secret).collect()))
    }

    /// Seals what the job needs; `None` where the system has no random bytes.
    pub(crate) fn seal(&self, tenant: &TenantId, job: &JobId, waiting: &KeptJob) -> Option<Vec<u8>> {
        let Terms {
            weight,
            running,
            waiting: may_wait,
        } = waiting.terms;
        let head = Head {
            weight,
            running,
            waiting: may_wait,
        };
        let mut plain = serde_json::to_vec(&head).ok()?;
        plain.push(b'\n');
        plain.extend_from_slice(&waiting.body);
        place(tenant, job).seal(self.0[0].expose_secret().as_bytes(), plain)
    }

    /// Opens what was sealed for this job, by any gateway with one of the keys.
    pub(crate) fn open(&self, tenant: &TenantId, job: &JobId, sealed: &[u8]) -> Option<KeptJob> {
        let keys = self.0.iter().map(|key| key.expose_secret().as_bytes());
        let plain = Bytes::from(place(tenant, job).open(keys, sealed)?);
        let end = plain.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(&plain[..end]).ok()?;
        Some(KeptJob {
            terms: Terms {
                weight: head.weight,
                running: head.running,
                waiting: head.waiting,
            },
            body: plain.slice(end + 1..),
        })
    }
}

impl fmt::Debug for WaitingJobsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitingJobsKeys({} hidden)", self.0.len())
    }
}

fn place<'a>(tenant: &'a TenantId, job: &'a JobId) -> Place<'a> {
    Place {
        purpose: Purpose::WaitingJobs,
        tenant,
        job,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";

    fn keys(list: &str) -> Result<WaitingJobsKeys, InvalidWaitingJobsKeys> {
        WaitingJobsKeys::parse(&SecretString::from(list))
    }

    #[test]
    fn what_a_waiting_job_needs_comes_back_with_any_of_the_keys() {
        let (tenant, job) = ("a".parse().unwrap(), JobId::new_now());
        let waiting = KeptJob {
            terms: Terms {
                running: NonZeroU32::new(3),
                ..Terms::default()
            },
            body: Bytes::from_static(b"{\"accessToken\":\"canary\"}\n"),
        };
        let sealed = keys(OLD).unwrap().seal(&tenant, &job, &waiting).unwrap();
        for list in [OLD.to_owned(), format!("{NEW},{OLD}")] {
            let opened = keys(&list).unwrap().open(&tenant, &job, &sealed).unwrap();
            assert_eq!((opened.terms, opened.body), (waiting.terms, waiting.body.clone()));
        }
        assert!(keys(NEW).unwrap().open(&tenant, &job, &sealed).is_none());
    }

    #[test]
    fn keys_are_long_few_and_not_shown() {
        assert!(matches!(keys("short"), Err(InvalidWaitingJobsKeys::TooShort)));
        assert!(matches!(
            keys(&format!("{OLD},")),
            Err(InvalidWaitingJobsKeys::TooShort)
        ));
        assert!(matches!(
            keys(&format!("{OLD},{OLD},{NEW}")),
            Err(InvalidWaitingJobsKeys::TooMany)
        ));
        assert!(!format!("{:?}", keys(OLD).unwrap()).contains(OLD));
    }
}
