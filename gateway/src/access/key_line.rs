//! One line of the file of keys, as JSON.

use std::sync::Arc;

use mayfly_protocol::TenantId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::caller::{Caller, CallerLimits, KeyId, Scope};
use super::key::{KeyHash, NewKey};

/// A line is no key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeyLine {
    /// It is no JSON, or has a field that is missing, unknown or of another type.
    ///
    /// What the parser says is left out: it quotes the line, and somebody may have put a key there.
    #[error(
        "it is not the JSON of a key (see column {column}); a key has `id`, `tenant`, `sha256` and `scopes`, and may have `expires` and `limits`"
    )]
    Json {
        /// Where the parser gave up.
        column: usize,
    },
    /// A field is against its rule.
    #[error("its `{field}` {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it has to be.
        rule: &'static str,
    },
}

/// One line of the file of keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLine {
    id: String,
    tenant: TenantId,
    sha256: String,
    scopes: Vec<Scope>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "has_none")]
    limits: CallerLimits,
}

fn has_none(limits: &CallerLimits) -> bool {
    *limits == CallerLimits::default()
}

/// A key that is in force until it expires.
#[derive(Debug)]
pub(crate) struct KnownKey {
    pub(crate) id: KeyId,
    pub(super) hash: KeyHash,
    pub(super) caller: Arc<Caller>,
    expires: Option<OffsetDateTime>,
}

impl KnownKey {
    pub(super) fn has_expired(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl KeyLine {
    /// The line that makes a new key known.
    pub fn of(
        key: &NewKey,
        tenant: TenantId,
        scopes: Vec<Scope>,
        expires: Option<OffsetDateTime>,
        limits: CallerLimits,
    ) -> Self {
        Self {
            id: key.id.to_string(),
            tenant,
            sha256: key.hash.to_hex(),
            scopes,
            expires: expires.and_then(|time| time.format(&Rfc3339).ok()),
            limits,
        }
    }

    /// The line as it stands in the file, without its end.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a key's line has text keys only")
    }

    pub(super) fn parse(line: &str) -> Result<KnownKey, InvalidKeyLine> {
        let line: Self = serde_json::from_str(line).map_err(|error| InvalidKeyLine::Json {
            column: error.column(),
        })?;
        line.check()
    }

    fn check(self) -> Result<KnownKey, InvalidKeyLine> {
        let invalid = |field, rule| InvalidKeyLine::Field { field, rule };
        let id: KeyId = self
            .id
            .parse()
            .map_err(|_| invalid("id", "is not 1 to 32 lower-case letters and digits"))?;
        let hash = KeyHash::from_hex(&self.sha256)
            .ok_or_else(|| invalid("sha256", "is not 64 lower-case hexadecimal digits"))?;
        if self.scopes.is_empty() {
            return Err(invalid("scopes", "is empty: such a key is for nothing"));
        }
        let parse = |text: String| OffsetDateTime::parse(&text, &Rfc3339);
        let expires = self.expires.map(parse).transpose().map_err(|_| {
            invalid(
                "expires",
                "is not an RFC 3339 time such as `2027-01-31T00:00:00Z`",
            )
        })?;
        let caller = Caller {
            tenant: self.tenant,
            key: Some(id.clone()),
            scopes: self.scopes.into_iter().collect(),
            limits: self.limits,
        };
        Ok(KnownKey {
            id,
            hash,
            caller: Arc::new(caller),
            expires,
        })
    }
}
