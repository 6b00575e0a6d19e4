//! Who may ask the gateway for what: keys, the tenants that they stand for, their scopes and their limits.
//!
//! [`Access`] turns a request into a [`Caller`], or refuses it. What follows leans on the caller alone. This module must not know jobs,
//! sessions or workers.

mod bucket;
mod caller;
mod key;
mod key_file;
mod key_line;
mod usage;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderMap, Uri};
use mayfly_protocol::{ErrorCode, Refusal};
use mayfly_server::WatchedFile;
use mayfly_server::bearer;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::error_text::with_causes;

pub use caller::{Caller, CallerLimits, InvalidKeyId, KeyId, Scope, Scopes};
pub use key::NewKey;
pub use key_file::KeyFileError;
use key_file::KeyRing;
pub use key_line::{InvalidKeyLine, KeyLine};
pub(crate) use usage::StreamPass;
use usage::Usages;

/// Reads a file of keys for a fuzz target, and gives their number.
#[cfg(fuzzing)]
pub(crate) fn parse_keys(bytes: Vec<u8>) -> Result<usize, KeyFileError> {
    key_file::parse(PathBuf::from("keys"), bytes).map(|keys| keys.len())
}

/// Bytes of a file of keys.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Names of query parameters that people put keys into.
const KEY_PARAMETERS: &[&str] = &[
    "access_token",
    "accesstoken",
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "key",
    "token",
];

/// Where the keys are.
#[derive(Debug, Clone)]
pub struct KeysConfig {
    /// A file with one key a line, see [`KeyLine`].
    pub file: PathBuf,
    /// How often the gateway looks whether the file changed.
    pub look_interval: Duration,
}

impl KeysConfig {
    /// The defaults, with keys from this file.
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            look_interval: Duration::from_secs(1),
        }
    }
}

/// Who may ask for what.
#[derive(Debug)]
pub(crate) struct Access {
    keys: Option<Keys>,
    /// Whoever comes where there are no keys.
    local: Arc<Caller>,
    usages: Usages,
}

#[derive(Debug)]
struct Keys {
    state: RwLock<KeysState>,
    file: tokio::sync::Mutex<WatchedFile>,
    look_interval: Duration,
}

#[derive(Debug)]
struct KeysState {
    ring: Arc<KeyRing>,
    /// Why the file as it is now could not be taken.
    broken: Option<String>,
}

/// What operators see of the keys.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct KeysReport {
    known: usize,
    /// Why the file cannot be taken as it is now; the keys of before are in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broken: Option<String>,
}

impl Access {
    /// Reads the keys, where there are to be any; without them, whoever reaches the gateway is the operator of its default tenant.
    pub(crate) async fn open(config: Option<&KeysConfig>) -> Result<Self, KeyFileError> {
        let keys = match config {
            None => None,
            Some(config) => Some(Keys::read(config).await?),
        };
        Ok(Self {
            keys,
            local: Arc::new(Caller::local()),
            usages: Usages::default(),
        })
    }

    /// Finds out whose request this is, and counts it.
    pub(crate) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        refuse_keys_in_query(uri)?;
        let Some(keys) = &self.keys else {
            return Ok(Arc::clone(&self.local));
        };
        let caller = keys.caller(headers, OffsetDateTime::now_utc())?;
        self.usages.count_request(&caller, Instant::now())?;
        Ok(caller)
    }

    /// A place among the streams that the caller's key may have open.
    pub(crate) fn stream(&self, caller: &Caller) -> Result<StreamPass, Refusal> {
        self.usages.stream(caller)
    }

    pub(crate) fn report(&self) -> Option<KeysReport> {
        self.keys.as_ref().map(|keys| {
            let state = keys.state.read().unwrap_or_else(PoisonError::into_inner);
            KeysReport {
                known: state.ring.len(),
                broken: state.broken.clone(),
            }
        })
    }

    /// Takes the file again whenever it changed, for as long as the future is polled.
    pub(crate) async fn follow(&self) -> Infallible {
        let Some(keys) = &self.keys else {
            return std::future::pending().await;
        };
        let mut file = keys.file.lock().await;
        loop {
            sleep(keys.look_interval).await;
            if file.has_changed().await {
                let read = key_file::read(&mut file).await;
                let ring = keys.take(read);
                self.usages.forget_all_but(&ring);
            }
        }
    }
}

impl Keys {
    async fn read(config: &KeysConfig) -> Result<Self, KeyFileError> {
        let mut file = WatchedFile::new(config.file.clone(), MAX_FILE_BYTES);
        let ring = Arc::new(key_file::read(&mut file).await?);
        tracing::info!(keys = ring.len(), "read the keys");
        Ok(Self {
            state: RwLock::new(KeysState { ring, broken: None }),
            file: tokio::sync::Mutex::new(file),
            look_interval: config.look_interval,
        })
    }

    /// Takes what was read, or keeps the keys of before; gives those that are in force.
    fn take(&self, read: Result<KeyRing, KeyFileError>) -> Arc<KeyRing> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(ring) => {
                tracing::info!(keys = ring.len(), "read the keys again");
                state.ring = Arc::new(ring);
                state.broken = None;
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(
                    error,
                    "the file of keys cannot be taken; the keys of before stay in force"
                );
                state.broken = Some(error);
            }
        }
        Arc::clone(&state.ring)
    }

    fn caller(&self, headers: &HeaderMap, now: OffsetDateTime) -> Result<Arc<Caller>, Refusal> {
        let unauthorized = |text: String| Err(Refusal::new(ErrorCode::Unauthorized, text));
        let Some(credential) = bearer::bearer(headers) else {
            let text = "this gateway wants a key; send `authorization: Bearer` with one that its operator made, once";
            return unauthorized(text.to_owned());
        };
        let ring = Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).ring);
        let Some(known) = ring.find(credential) else {
            let text = "this gateway does not know this key; ask its operator for another";
            return unauthorized(text.to_owned());
        };
        if known.has_expired(now) {
            let text = format!("the key `{}` has expired; ask the operator for another", known.id);
            return unauthorized(text);
        }
        Ok(Arc::clone(&known.caller))
    }
}

/// A key in an address is in the logs of everything that it passed.
fn refuse_keys_in_query(uri: &Uri) -> Result<(), Refusal> {
    let query = uri.query().unwrap_or_default();
    let is_key = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        KEY_PARAMETERS
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    if query.contains(key::PREFIX) || query.split('&').any(is_key) {
        let text = "the address carries a key, and addresses are logged wherever they pass; send it as `authorization: Bearer`, and have this one replaced";
        return Err(Refusal::new(ErrorCode::InvalidRequest, text).with_field("query"));
    }
    Ok(())
}
