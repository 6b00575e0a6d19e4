//! A key: `mfk_<id>_<64 hexadecimal digits>`, of which only the hash is kept.
//!
//! The digits are 256 random bits. A slow hash (bcrypt, Argon2) makes up for secrets that can be guessed; these cannot be, by however many
//! tries a second, so that one SHA-256 hides them as well and costs a request less than a microsecond.

use std::fmt::Write as _;

use mayfly_protocol::SecretString;
use rustls::crypto::{GetRandomFailed, ring};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::caller::KeyId;

/// What every key begins with, so that people and scanners of secrets know one when they see it.
pub(super) const PREFIX: &str = "mfk_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// The SHA-256 of a whole key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash that no key has.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 64 || !text.bytes().all(is_hex) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    pub(super) fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Compares in constant time.
    pub(super) fn is(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The id in a key's text; `None` where it has another form.
pub(super) fn id_of(key: &str) -> Option<KeyId> {
    let (id, _secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    id.parse().ok()
}

/// A key that was just made. Its text is shown to its owner, once, and kept nowhere.
#[derive(Debug)]
pub struct NewKey {
    /// Its name.
    pub id: KeyId,
    /// Its text.
    pub text: SecretString,
    pub(super) hash: KeyHash,
}

impl NewKey {
    /// Makes a key from the system's random numbers.
    pub fn random() -> Result<Self, GetRandomFailed> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        let random = ring::default_provider().secure_random;
        random.fill(&mut id)?;
        random.fill(&mut secret)?;
        let id = hex(&id);
        let text = format!("{PREFIX}{id}_{}", hex(&secret));
        Ok(Self {
            id: id.parse().expect("hexadecimal digits are a key's id"),
            hash: KeyHash::of(&text),
            text: SecretString::from(text),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_new_key_says_its_id_and_hides_the_rest() {
        let (one, two) = (NewKey::random().unwrap(), NewKey::random().unwrap());
        assert_ne!(one.text.expose_secret(), two.text.expose_secret());
        assert_eq!(id_of(one.text.expose_secret()), Some(one.id.clone()));
        assert!(KeyHash::of(one.text.expose_secret()).is(one.hash));
        assert!(!one.hash.is(two.hash));
        let secret = one.text.expose_secret().rsplit_once('_').unwrap().1;
        assert_eq!(secret.len(), 64);
        assert!(!format!("{one:?}").contains(secret));
    }

    #[test]
    fn hashes_have_one_spelling() {
        let hash = KeyHash::of("abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_hex(), text);
        assert_eq!(KeyHash::from_hex(text), Some(hash));
        for bad in ["", "ba78", &text.to_uppercase(), &format!("{}é", &text[..62])] {
            assert_eq!(KeyHash::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        for bad in ["", "mfk_", "mfk_abc", "mfk__x", "mfk_A_x", "abc_def", "mfk_a-b_x"] {
            assert_eq!(id_of(bad), None, "{bad}");
        }
    }
}
