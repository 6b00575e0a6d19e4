//! Whoever sent a request, as the rest of the gateway sees it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use mayfly_protocol::{ErrorCode, Refusal, TenantId};
use mayfly_queue::{Terms, Weight};
use serde::{Deserialize, Serialize};

/// The name of a key, which is no secret: it stands in logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// A text is no name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's id is 1 to 32 lower-case letters and digits")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;
    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        match (1..=32).contains(&text.len()) && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidKeyId),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Sending, following and cancelling jobs, and deleting sessions.
    Jobs,
    /// Looking at jobs and at what sessions hold.
    Read,
    /// Looking at the fleet.
    Operate,
}

impl Scope {
    /// Every scope.
    pub const ALL: &'static [Self] = &[Self::Jobs, Self::Read, Self::Operate];

    /// The scope as it stands in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|scope| scope.as_str() == text);
        found
            .copied()
            .ok_or_else(|| "is not one of `jobs`, `read` and `operate`".to_owned())
    }
}

/// The scopes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Every scope.
    pub fn all() -> Self {
        Self(Scope::ALL.to_vec())
    }

    /// Whether this one is among them.
    pub fn contains(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

/// The bounds of one key; what is absent has none of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallerLimits {
    /// Requests a minute, of whatever kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Event streams that are open at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<NonZeroU32>,
    /// Jobs of the tenant that may run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_jobs: Option<NonZeroU32>,
    /// Jobs of the tenant that may wait at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_jobs: Option<NonZeroU32>,
    /// The tenant's share of the workers beside the others', 1 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
}

impl CallerLimits {
    /// On what terms the queue takes the tenant's jobs.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            weight: self.weight.unwrap_or_default(),
            running: self.running_jobs,
            waiting: self.waiting_jobs,
        }
    }
}

/// Whoever sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose jobs and sessions these are.
    pub tenant: TenantId,
    /// The key that was shown; `None` on a gateway without keys.
    pub key: Option<KeyId>,
    /// What the key is for.
    pub scopes: Scopes,
    /// Its bounds.
    pub limits: CallerLimits,
}

impl Caller {
    /// Whoever reaches a gateway without keys.
    pub(crate) fn local() -> Self {
        Self {
            tenant: TenantId::default(),
            key: None,
            scopes: Scopes::all(),
            limits: CallerLimits::default(),
        }
    }

    /// Refuses what none of these scopes is among the caller's for.
    pub(crate) fn check_any(&self, wanted: &[Scope]) -> Result<(), Refusal> {
        if wanted.iter().any(|scope| self.scopes.contains(*scope)) {
            return Ok(());
        }
        let names: Vec<String> = wanted.iter().map(|scope| format!("`{scope}`")).collect();
        let names = names.join(" or ");
        let text =
            format!("this key lacks the scope {names}; ask the operator of this gateway for one that has it");
        Err(Refusal::new(ErrorCode::Forbidden, text).with_field("scope"))
    }
}
