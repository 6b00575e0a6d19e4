//! Fresh names for packs: nobody ever stores another pack, or the same once more, under a name that was given.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A name that nobody else gives: 32 random lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline)]
pub struct PackName(String);

/// Says that a text is no name of a pack.
#[derive(Debug, thiserror::Error)]
#[error("the name of a pack is not 32 lower-case hexadecimal digits")]
pub struct InvalidPackName;

impl PackName {
    /// A name that was never given before.
    pub(crate) fn fresh() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }
}

impl TryFrom<String> for PackName {
    type Error = InvalidPackName;
    fn try_from(text: String) -> Result<Self, InvalidPackName> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.len() == 32 && text.bytes().all(is_digit) {
            true => Ok(Self(text)),
            false => Err(InvalidPackName),
        }
    }
}

impl From<PackName> for String {
    fn from(name: PackName) -> Self {
        name.0
    }
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_to_another_place() {
        let name = PackName::fresh();
        assert_eq!(PackName::try_from(name.to_string()).unwrap(), name);
        assert_ne!(PackName::fresh(), name);
        for bad in [
            "",
            "../x",
            &"a".repeat(31),
            &"a".repeat(40),
            &"A".repeat(32),
            &"/".repeat(32),
        ] {
            assert!(PackName::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
