//! Who asks, and whether they may. Pure: it must not know repositories or processes.

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mayfly_protocol::{ExposeSecret, SecretString};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::{Access, Permission};

/// The answer to "may they?".
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They may; the name is for `REMOTE_USER`, and absent for an anonymous request.
    Granted { user: Option<String> },
    /// No credentials where some are needed, or unknown ones: 401.
    Unknown,
    /// Known, and not allowed: 403.
    Forbidden,
}

/// Decides on a request that needs `needed`, from its `Authorization` header.
pub(crate) fn decide(
    tokens: &[Access],
    anonymous: Permission,
    authorization: Option<&HeaderValue>,
    needed: Permission,
) -> Verdict {
    let Some(header) = authorization else {
        return if anonymous >= needed {
            Verdict::Granted { user: None }
        } else {
            Verdict::Unknown
        };
    };
    match token_of(header).and_then(|token| find(tokens, &token)) {
        None => Verdict::Unknown,
        Some(access) if access.permission >= needed => Verdict::Granted {
            user: Some(access.user.clone()),
        },
        Some(_) => Verdict::Forbidden,
    }
}

/// The token of `Bearer <token>` or `Basic base64(<any user>:<token>)` (RFC 6750, RFC 7617).
fn token_of(header: &HeaderValue) -> Option<SecretString> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(SecretString::from(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (_user, token) = pair.split_once(':')?;
    Some(SecretString::from(token.to_owned()))
}

/// Compares with every token, and each in constant time, so that the time tells nothing but the length.
fn find<'a>(tokens: &'a [Access], token: &SecretString) -> Option<&'a Access> {
    let given = token.expose_secret().as_bytes();
    let mut found = u64::MAX;
    for (index, access) in (0_u64..).zip(tokens) {
        let equal: Choice = access.token.expose_secret().as_bytes().ct_eq(given);
        found.conditional_assign(&index, equal);
    }
    usize::try_from(found).ok().and_then(|index| tokens.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<Access> {
        let access = |token: &str, user: &str, permission| Access {
            token: SecretString::from(token.to_owned()),
            user: user.to_owned(),
            permission,
        };
        vec![
            access("writes", "ann", Permission::Write),
            access("reads", "bob", Permission::Read),
            access("none", "eve", Permission::None),
        ]
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    fn verdict(authorization: &str, needed: Permission) -> Verdict {
        let header = HeaderValue::from_str(authorization).unwrap();
        decide(&tokens(), Permission::None, Some(&header), needed)
    }

    fn granted(user: &str) -> Verdict {
        Verdict::Granted {
            user: Some(user.to_owned()),
        }
    }

    #[test]
    fn tokens_open_what_they_are_for() {
        use Permission::{Read, Write};
        for (authorization, needed, expected) in [
            (basic("x-access-token:writes"), Write, granted("ann")),
            (basic("x-access-token:writes"), Read, granted("ann")),
            (basic("anyone:reads"), Read, granted("bob")),
            (basic(":reads"), Read, granted("bob")),
            ("Bearer reads".to_owned(), Read, granted("bob")),
            ("bearer reads".to_owned(), Write, Verdict::Forbidden),
            (basic("x:none"), Read, Verdict::Forbidden),
            (basic("x:wrong"), Read, Verdict::Unknown),
            (basic("x:read"), Read, Verdict::Unknown),
            (basic("x:"), Read, Verdict::Unknown),
            (basic("writes"), Read, Verdict::Unknown),
            ("Basic !!!".to_owned(), Read, Verdict::Unknown),
            ("Bearer".to_owned(), Read, Verdict::Unknown),
            ("Digest reads".to_owned(), Read, Verdict::Unknown),
        ] {
            assert_eq!(
                verdict(&authorization, needed),
                expected,
                "{authorization} {needed:?}"
            );
        }
    }

    #[test]
    fn without_credentials_the_anonymous_permission_holds() {
        let ask = |anonymous, needed| decide(&tokens(), anonymous, None, needed);
        assert_eq!(
            ask(Permission::Read, Permission::Read),
            Verdict::Granted { user: None }
        );
        assert_eq!(ask(Permission::Read, Permission::Write), Verdict::Unknown);
        assert_eq!(ask(Permission::None, Permission::Read), Verdict::Unknown);
    }
}
