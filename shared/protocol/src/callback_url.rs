//! Addresses that are called when a job has ended.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Bytes of an address.
const MAX_BYTES: usize = 2048;
const TOO_LONG: &str = "is longer than 2048 bytes, as it is sent";

/// Says why a text is not an address to call. It never repeats the text: it could hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("address {0}")]
pub struct InvalidCallbackUrl(&'static str);

/// The `http` or `https` address of a receiver, without user information and fragment; at most 2,048 bytes.
///
/// Paths and queries of such addresses often are the secret that lets one in: `Display` and `Debug` show the origin alone. It says nothing of
/// whether the host may be reached: that is decided on the resolved address, when a connection is made.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallbackUrl(Url);

impl CallbackUrl {
    /// The whole address, which may hold a secret.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl FromStr for CallbackUrl {
    type Err = InvalidCallbackUrl;

    fn from_str(text: &str) -> Result<Self, InvalidCallbackUrl> {
        let fail = |reason| Err(InvalidCallbackUrl(reason));
        if text.len() > MAX_BYTES {
            return fail(TOO_LONG);
        }
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return fail("has a space, a control character or a backslash");
        }
        if !(text.starts_with("https://") || text.starts_with("http://")) {
            return fail("begins with neither `https://` nor `http://`");
        }
        let url = Url::parse(text).map_err(|_| InvalidCallbackUrl("cannot be parsed"))?;
        if url.as_str().len() > MAX_BYTES {
            return fail(TOO_LONG);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return fail("carries credentials");
        }
        if url.fragment().is_some() {
            return fail("has a fragment");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return fail("has no host");
        }
        Ok(Self(url))
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({})", self.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_their_secrets_do_not_show() {
        let url: CallbackUrl = "https://hooks.example:8443/canary?token=canary".parse().unwrap();
        assert_eq!(url.as_url().path(), "/canary");
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            (
                "https://hooks.example:8443".to_owned(),
                "CallbackUrl(https://hooks.example:8443)".to_owned()
            )
        );
        for (bad, reason) in [
            ("", "begins"),
            ("ftp://h/", "begins"),
            ("https:/h", "begins"),
            ("https://u:canary@h/", "credentials"),
            ("https://h/#canary", "fragment"),
            ("https:///", "parsed"),
            ("https://h/a b", "space"),
            ("https://h/\r\nx: y", "space"),
            (&format!("https://h/{}", "a".repeat(2048)), "longer"),
            (&format!("https://h/{}", "{".repeat(1000)), "longer"),
        ] {
            let error = bad.parse::<CallbackUrl>().unwrap_err().to_string();
            assert!(
                error.contains(reason) && !error.contains("canary"),
                "{bad}: {error}"
            );
        }
    }
}
