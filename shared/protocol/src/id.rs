//! Identifiers: each has its rules in `FromStr`, and nothing else makes one.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::MAX_SESSION_ID_CHARS;

/// Says why a text is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {reason}")]
pub struct InvalidId {
    kind: &'static str,
    reason: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(inline)]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

text_id! {
    /// A session: 1 to 128 characters out of `A-Z a-z 0-9 . _ -`, starting with a letter or digit, without `..`.
    ///
    /// The rule makes it safe as one component of a storage key and as one segment of a URL.
    SessionId
}

text_id! {
    /// A job: a UUID in its canonical lower-case form, made by the gateway, or by a worker that is asked directly.
    JobId
}

text_id! {
    /// A tenant: same rule as [`SessionId`]. Storage keys begin with it.
    TenantId
}

impl FromStr for SessionId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        check_name("sessionId", text).map(|()| Self(text.to_owned()))
    }
}

impl FromStr for TenantId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        check_name("tenant", text).map(|()| Self(text.to_owned()))
    }
}

impl Default for TenantId {
    /// The tenant of a fleet without keys.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for JobId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId {
            kind: "job id",
            reason: "is not a UUID in lower case with hyphens",
        };
        let uuid = Uuid::try_parse(text).map_err(|_| invalid.clone())?;
        let canonical = uuid.hyphenated().to_string();
        if canonical == text {
            Ok(Self(canonical))
        } else {
            Err(invalid)
        }
    }
}

impl JobId {
    /// Makes a new id; ids that are made later sort later (UUID version 7, RFC 9562).
    pub fn new_now() -> Self {
        Self(Uuid::now_v7().hyphenated().to_string())
    }
}

fn check_name(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    let fail = |reason| Err(InvalidId { kind, reason });
    let Some(first) = text.bytes().next() else {
        return fail("is empty");
    };
    if text.len() > MAX_SESSION_ID_CHARS {
        return fail("is longer than 128 characters");
    }
    if !first.is_ascii_alphanumeric() {
        return fail("does not start with a letter or digit");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return fail("has a character other than letters, digits, `.`, `_` and `-`");
    }
    if text.contains("..") {
        return fail("contains `..`");
    }
    Ok(())
}

/// The generation of a session's manifest: 1 at its first save, one more at each that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation of the first save.
    pub const FIRST: Self = Self(1);

    /// The generation of the save that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a git object: 20 bytes of SHA-1, written as 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline)]
pub struct ObjectId([u8; 20]);

/// The id of a commit object.
pub type CommitId = ObjectId;
/// The id of a tree object.
pub type TreeId = ObjectId;

impl ObjectId {
    /// The id of the tree without entries, which git knows without having it.
    pub const EMPTY_TREE: Self = Self([
        0x4b, 0x82, 0x5d, 0xc6, 0x42, 0xcb, 0x6e, 0xb9, 0xa0, 0x60, 0xe5, 0x4b, 0xf8, 0xd6, 0x92, 0x88, 0xfb,
        0xee, 0x49, 0x04,
    ]);
    /// The id that stands for "no object" in ref updates.
    pub const ZERO: Self = Self([0; 20]);

    /// The id with these 20 bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Whether this is [`ObjectId::ZERO`].
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 20]
    }
}

impl FromStr for ObjectId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId {
            kind: "object id",
            reason: "is not 40 lower-case hexadecimal digits",
        };
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(invalid);
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (hex_value(pair[0]), hex_value(pair[1])) else {
                return Err(invalid);
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl TryFrom<String> for ObjectId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> String {
        id.to_string()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_that_could_leave_their_folder_are_refused() {
        let long = "a".repeat(300);
        for bad in [
            "", "../x", "a/b", "a\0b", ".", "..", "a..b", "-x", ".hidden", "a b", "ä", "a%2fb", "a\n", &long,
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?}");
        }
        for good in ["a", "abc123", "A.b-c_d", &"a".repeat(128)] {
            assert_eq!(
                good.parse::<SessionId>().map(|id| id.to_string()).as_deref(),
                Ok(good)
            );
        }
    }

    #[test]
    fn job_ids_have_one_spelling() {
        let id = JobId::new_now();
        assert_eq!(id.as_str().parse::<JobId>().as_ref(), Ok(&id));
        assert!(id.as_str().to_uppercase().parse::<JobId>().is_err());
        assert!(id.as_str().replace('-', "").parse::<JobId>().is_err());
    }

    #[test]
    fn object_ids_have_one_spelling() {
        let text = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        assert_eq!(text.parse(), Ok(ObjectId::EMPTY_TREE));
        assert_eq!(ObjectId::EMPTY_TREE.to_string(), text);
        for bad in [
            "",
            "4b825dc",
            &text.to_uppercase(),
            &format!("{text}0"),
            &text.replace('4', "g"),
        ] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad:?}");
        }
    }
}
