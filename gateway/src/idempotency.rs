//! `Idempotency-Key`: which job a request with a key stands for, across restarts and gateways.
//!
//! The key is given to one job, once, before that is begun; whoever comes later with it gets that job. A job that ended before any worker can have begun it
//! gives its key free again. This module must not know how a job is begun.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use mayfly_protocol::{ErrorCode, JobId, JobKind, Refusal, TenantId, request};
use mayfly_queue::Lane;
use mayfly_server::request::{invalid_header, single_header};
use mayfly_session::{Claimed, HexDigest, KeyArchive, KeyArchiveError, KeyRecord};
use tokio::time::{Instant, sleep};

use crate::jobs::{Job, JobWriter};
use crate::routes::job_list::{self, Unknown, Wanted};
use crate::state::Gateway;

const NAME: &str = "Idempotency-Key";
/// Characters of a key.
const MAX_KEY_CHARS: usize = 255;
/// Between two looks whether another request with the key has become a job.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(25);
/// Keys in memory before those are looked for whose jobs are forgotten.
const FIRST_SWEEP: usize = 1024;

/// A request with a key.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    key: HexDigest,
    request: HexDigest,
}

/// What a request with a key is.
pub(crate) enum Turn {
    /// The first with its key: the job is to be begun.
    First(JobWriter),
    /// One more for a job that there is.
    Again(Arc<Job>),
}

/// The keys of a gateway without a storage.
#[derive(Debug, Default)]
pub(crate) struct KeyMemory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    keys: HashMap<(TenantId, HexDigest), (JobId, HexDigest)>,
    sweep_at: usize,
}

/// The key in the headers, as a digest; `None` where there is none.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<HexDigest>, Refusal> {
    let Some(key) = single_header(headers, NAME)? else {
        return Ok(None);
    };
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
    match (1..=MAX_KEY_CHARS).contains(&key.len()) && is_plain {
        true => Ok(Some(HexDigest::of(key.as_bytes()))),
        false => Err(invalid_header(
            NAME,
            "is not 1 to 255 visible ASCII characters; send a random one, such as a UUID",
        )),
    }
}

impl Keyed {
    /// The request with this key. Its digest is of what the JSON says, whatever the order and the spaces, without the credentials: they may be new ones when a request
    /// comes again, and nothing that is stored is to tell whether a guess at one is right.
    pub(crate) fn new(key: HexDigest, kind: JobKind, body: &[u8]) -> Self {
        let mut value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, value| {
                !value.is_null() && !request::CREDENTIAL_FIELDS.contains(&name.as_str())
            });
        }
        let text = format!("{}\n{}", kind.as_str(), canonical(&value));
        Self {
            key,
            request: HexDigest::of(text.as_bytes()),
        }
    }
}

/// The JSON with the members of every object in the order of their names.
fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    let text = |value: &Value| value.to_string();
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let members = members
                .into_iter()
                .map(|(name, value)| format!("{}:{}", text(&Value::from(name.as_str())), canonical(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        other => text(other),
    }
}

/// Finds out which job a request with a key is for, and makes it where it is the first.
pub(crate) async fn turn(
    gateway: &Arc<Gateway>,
    kind: JobKind,
    lane: Lane,
    keyed: &Keyed,
) -> Result<Turn, Refusal> {
    match &gateway.keys {
        Some(archive) => stored_turn(gateway, archive, kind, lane, keyed).await,
        None => remembered_turn(gateway, kind, lane, keyed),
    }
}

/// Gives the key back of a job that was refused, so that the request can be sent again.
pub(crate) async fn give_back(gateway: &Gateway, tenant: &TenantId, keyed: &Keyed) {
    gateway.key_memory.forget(tenant, &keyed.key);
    let Some(archive) = &gateway.keys else { return };
    if let Err(error) = archive.forget(tenant, &keyed.key).await {
        let error = &error as &(dyn std::error::Error + 'static);
        tracing::warn!(
            error,
            "the idempotency key of a refused job is not given back at once"
        );
    }
}

async fn stored_turn(
    gateway: &Arc<Gateway>,
    archive: &KeyArchive,
    kind: JobKind,
    lane: Lane,
    keyed: &Keyed,
) -> Result<Turn, Refusal> {
    let patient_until = Instant::now() + gateway.config.key_patience;
    let ours = KeyRecord::new(JobId::new_now(), keyed.request.clone());
    let tenant = &lane.tenant;
    loop {
        let claimed = archive.claim(tenant, &keyed.key, &ours).await;
        let (theirs, version) = match claimed.map_err(|error| unsaid(&error))? {
            Claimed::Ours => break,
            Claimed::Theirs(theirs, version) => (theirs, version),
        };
        if theirs.request != keyed.request {
            return Err(mismatch());
        }
        match job_list::look_for(gateway, tenant, &theirs.job_id, Wanted::Followed).await {
            Ok(job) if !job.ended_untouched() => return Ok(Turn::Again(job)),
            Ok(_) => {}
            Err(Unknown::NotFound) if Instant::now() < patient_until => {
                sleep(LOOK_EVERY).await;
                continue;
            }
            // Whoever had the key was gone before there was a record of its job: it was never begun.
            Err(Unknown::NotFound) => {}
            Err(Unknown::Unsaid) => return Err(job_list::unsaid()),
        }
        let given = archive.give(tenant, &keyed.key, &ours, version).await;
        if given.map_err(|error| unsaid(&error))? {
            break;
        }
    }
    Ok(Turn::First(gateway.jobs.add_as(ours.job_id, kind, lane)))
}

fn remembered_turn(
    gateway: &Arc<Gateway>,
    kind: JobKind,
    lane: Lane,
    keyed: &Keyed,
) -> Result<Turn, Refusal> {
    let mut remembered = gateway.key_memory.lock();
    let name = (lane.tenant.clone(), keyed.key.clone());
    if let Some((job, request)) = remembered.keys.get(&name)
        && let Some(job) = gateway.jobs.get(job)
    {
        if *request != keyed.request {
            return Err(mismatch());
        }
        if !job.ended_untouched() {
            return Ok(Turn::Again(job));
        }
    }
    let writer = gateway.jobs.add(kind, lane);
    let value = (writer.job().id.clone(), keyed.request.clone());
    remembered.keys.insert(name, value);
    if remembered.keys.len() > remembered.sweep_at.max(FIRST_SWEEP) {
        remembered
            .keys
            .retain(|_, (job, _)| gateway.jobs.get(job).is_some());
        remembered.sweep_at = remembered.keys.len() * 2;
    }
    Ok(Turn::First(writer))
}

impl KeyMemory {
    fn forget(&self, tenant: &TenantId, key: &HexDigest) {
        self.lock().keys.remove(&(tenant.clone(), key.clone()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mismatch() -> Refusal {
    let text = format!(
        "this `{NAME}` was used for another request; send the same body as with it the first time, or a new key for a new job"
    );
    Refusal::new(ErrorCode::IdempotencyMismatch, text).with_field(NAME)
}

fn unsaid(error: &KeyArchiveError) -> Refusal {
    tracing::warn!(
        error = error as &(dyn std::error::Error + 'static),
        "the storage did not say what an idempotency key stands for"
    );
    let text = "the storage does not say whether this `Idempotency-Key` has a job, so none was begun; send the request again with the same key";
    Refusal::new(ErrorCode::StorageUnavailable, text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn digest(body: &str) -> HexDigest {
        Keyed::new(HexDigest::of(b"k"), JobKind::CommitAndPush, body.as_bytes()).request
    }

    #[test]
    fn the_digest_is_of_what_is_said_and_not_of_credentials() {
        let one = digest(r#"{"sessionId":"s","author":{"name":"A","email":"e"},"githubAccessToken":"one"}"#);
        let same = digest(
            r#"{ "githubAccessToken":"two", "author": {"email":"e","name":"A"}, "sessionId":"s", "message":null}"#,
        );
        assert_eq!(one, same);
        for other in [
            r#"{"sessionId":"t","author":{"name":"A","email":"e"}}"#,
            r#"{"sessionId":"s","author":{"name":"B","email":"e"}}"#,
            r#"{"sessionId":"s","author":{"name":"A","email":"e"},"push":false}"#,
        ] {
            assert_ne!(one, digest(other), "{other}");
        }
        let kind = Keyed::new(
            HexDigest::of(b"k"),
            JobKind::CreateBranch,
            br#"{"sessionId":"s"}"#,
        );
        assert_ne!(kind.request, digest(r#"{"sessionId":"s"}"#));
    }

    #[test]
    fn keys_have_a_limit_and_no_blanks() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_str(value).unwrap());
            key(&headers).map_err(|refusal| refusal.field)
        };
        assert!(
            with("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"")
                .unwrap()
                .is_some()
        );
        assert!(with(&"x".repeat(255)).unwrap().is_some());
        for bad in ["", "a b", "a\tb", &"x".repeat(256)] {
            assert_eq!(with(bad), Err(Some(NAME.to_owned())), "{bad}");
        }
        assert_eq!(key(&HeaderMap::new()), Ok(None));
    }
}
