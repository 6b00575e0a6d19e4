//! `Authorization: Bearer`: what a request carries, and whether it is a secret that this fleet shares.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use mayfly_protocol::{ExposeSecret as _, SecretString};
use subtle::{Choice, ConstantTimeEq as _};

/// The most tokens that are valid at the same time: one, and the one that follows or precedes it.
const MAX_TOKENS: usize = 2;

/// The credential of a request; `None` where it has none, two, or one of another kind.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}

/// The tokens of a fleet: the first is sent, any is taken.
#[derive(Clone)]
pub struct FleetTokens(Vec<SecretString>);

/// A setting is no list of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokens {
    /// A token is empty or has characters that no header may carry.
    #[error("a token is empty, or has characters other than printable ASCII without spaces")]
    Unusable,
    /// There are too many.
    #[error("there are more than {MAX_TOKENS} tokens; the one in use and its successor are enough")]
    TooMany,
}

impl FleetTokens {
    /// Reads one token, or two with a comma between them.
    pub fn parse(list: &SecretString) -> Result<Self, InvalidTokens> {
        let tokens: Vec<&str> = list.expose_secret().split(',').map(str::trim).collect();
        if tokens.len() > MAX_TOKENS {
            return Err(InvalidTokens::TooMany);
        }
        let is_usable = |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !tokens.iter().all(is_usable) {
            return Err(InvalidTokens::Unusable);
        }
        let secret = |token: &str| SecretString::from(token.to_owned());
        Ok(Self(tokens.into_iter().map(secret).collect()))
    }

    /// The token that requests are sent with.
    pub fn sent(&self) -> &SecretString {
        &self.0[0]
    }

    /// Whether the request carries one of them; compared in constant time.
    pub fn are_carried_by(&self, headers: &HeaderMap) -> bool {
        let Some(carried) = bearer(headers) else {
            return false;
        };
        let matches = |token: &SecretString| carried.as_bytes().ct_eq(token.expose_secret().as_bytes());
        let none = Choice::from(0);
        self.0.iter().map(matches).fold(none, |any, one| any | one).into()
    }
}

impl fmt::Debug for FleetTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FleetTokens({} hidden)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn carrying(values: &[&'static str]) -> HeaderMap {
        let pair = |value: &&'static str| (AUTHORIZATION, HeaderValue::from_static(value));
        values.iter().map(pair).collect()
    }

    fn tokens(list: &str) -> Result<FleetTokens, InvalidTokens> {
        FleetTokens::parse(&SecretString::from(list.to_owned()))
    }

    #[test]
    fn one_credential_of_the_right_kind_is_found() {
        for (values, expected) in [
            (&[][..], None),
            (&["Bearer abc"], Some("abc")),
            (&["bEARER  abc "], Some("abc")),
            (&["Bearer "], None),
            (&["Bearer"], None),
            (&["Basic abc"], None),
            (&["Bearer abc", "Bearer abc"], None),
        ] {
            assert_eq!(bearer(&carrying(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn both_tokens_of_a_rotation_are_taken_and_no_other() {
        let both = tokens("old, new").unwrap();
        assert_eq!(both.sent().expose_secret(), "old");
        for (credential, is_taken) in [
            ("Bearer old", true),
            ("Bearer new", true),
            ("Bearer old,new", false),
            ("Bearer ol", false),
            ("Bearer olds", false),
        ] {
            assert_eq!(
                both.are_carried_by(&carrying(&[credential])),
                is_taken,
                "{credential}"
            );
        }
        assert!(!format!("{both:?}").contains("old"));
        assert_eq!(tokens("a,b,c").unwrap_err(), InvalidTokens::TooMany);
        for bad in ["", "a,", "a b", "ä"] {
            assert_eq!(tokens(bad).unwrap_err(), InvalidTokens::Unusable, "{bad:?}");
        }
    }
}
