//! The names of objects.

use std::fmt;
use std::str::FromStr;

/// The most bytes of a key: S3's own limit.
pub(crate) const MAX_KEY_BYTES: usize = 1024;
/// The most bytes of one component of a key: what file systems allow.
pub(crate) const MAX_COMPONENT_BYTES: usize = 255;
/// Components that begin so belong to the stores themselves (lock files, unfinished files).
pub(crate) const RESERVED_PREFIX: &str = ".mayfly-";

/// Says which rule a key breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("storage key {0}")]
pub struct InvalidKey(&'static str);

/// The name of an object: 1 to 1024 bytes, components separated by `/`, each of 1 to 255 characters out of `A-Z a-z 0-9 . _ = + @ -`.
///
/// No component is `.` or `..`, and none begins with `.mayfly-`, so that a key names neither a place outside the store nor one of the
/// store's own files.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Checks a text and makes a key of it.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        if text.is_empty() {
            return Err(InvalidKey("is empty"));
        }
        if text.len() > MAX_KEY_BYTES {
            return Err(InvalidKey("is longer than 1024 bytes"));
        }
        text.split('/').try_for_each(check_component)?;
        Ok(Self(text.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn components(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }
}

pub(crate) fn check_component(component: &str) -> Result<(), InvalidKey> {
    let fail = |reason| Err(InvalidKey(reason));
    if component.is_empty() {
        return fail("has an empty component (`//`, or a `/` at an end)");
    }
    if component.len() > MAX_COMPONENT_BYTES {
        return fail("has a component of more than 255 bytes");
    }
    if component == "." || component == ".." {
        return fail("has a component `.` or `..`");
    }
    if component.starts_with(RESERVED_PREFIX) {
        return fail("has a component that begins with `.mayfly-`, which is the store's own");
    }
    if !component.bytes().all(is_key_byte) {
        return fail("has a character other than letters, digits, `/` and `._=+@-`");
    }
    Ok(())
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._=+@-".contains(&byte)
}

impl FromStr for Key {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_leave_the_store_or_hit_its_own_files_are_refused() {
        let long = format!("{}/x", "a/".repeat(512));
        let wide = "a".repeat(256);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\\b",
            "a b",
            "a\0",
            "a\n",
            "ä",
            "a%2f",
            "~",
            "a:b",
            ".mayfly-locks/00",
            "a/.mayfly-tmp",
            &long,
            &wide,
        ] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", ".a", "...", "a.b_c=d+e@f-g/0", "-", &"a".repeat(255)] {
            assert_eq!(Key::new(good).map(|key| key.to_string()).as_deref(), Ok(good));
        }
        assert!(Key::new(&"ab/".repeat(341)[..1022]).is_ok());
    }
}
