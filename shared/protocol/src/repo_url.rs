//! Addresses of git repositories over HTTP.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::limits::MAX_REPO_URL_BYTES;

/// Says why a text is not the address of a repository. It never repeats the text: it could hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("repository URL {0}")]
pub struct InvalidRepoUrl(&'static str);

/// The `http` or `https` address of a repository, without credentials, query or fragment; at most 2,048 bytes.
///
/// It says nothing of whether the host may be reached: that is decided on the resolved address, when a connection is made.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoUrl(Url);

impl RepoUrl {
    /// The address, with its scheme and host in lower case and without a slash at the end.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parsed address.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The host, as written in the address.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// What two addresses of one repository share: the address without `.git` at its end.
    ///
    /// Every host in use serves `owner/repo` and `owner/repo.git` as the same repository.
    pub fn identity(&self) -> &str {
        let text = self.0.as_str();
        text.strip_suffix(".git").unwrap_or(text)
    }
}

const TOO_LONG: &str = "is longer than 2048 bytes, as it is sent";

impl FromStr for RepoUrl {
    type Err = InvalidRepoUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRepoUrl> {
        check_spelling(text)?;
        let mut url = Url::parse(text).map_err(|_| InvalidRepoUrl("cannot be parsed"))?;
        let fail = |reason| Err(InvalidRepoUrl(reason));
        if !url.username().is_empty() || url.password().is_some() {
            return fail("carries credentials; send them as `accessToken`");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return fail("has no host");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return fail("has a query or a fragment");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if path.is_empty() {
            return fail("names no repository, only a host");
        }
        url.set_path(&path);
        // Written with percent signs it is longer than it came, and it is what a session is read with again.
        if url.as_str().len() > MAX_REPO_URL_BYTES {
            return fail(TOO_LONG);
        }
        Ok(Self(url))
    }
}

/// Refuses what a lenient URL parser would mend: it accepts `HTTPS:/\host`, drops tabs and line ends, and trims spaces.
fn check_spelling(text: &str) -> Result<(), InvalidRepoUrl> {
    let fail = |reason| Err(InvalidRepoUrl(reason));
    if text.is_empty() {
        return fail("is empty");
    }
    if text.len() > MAX_REPO_URL_BYTES {
        return fail(TOO_LONG);
    }
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
    {
        return fail("has a space, a control character or a backslash");
    }
    let lower = text.to_ascii_lowercase();
    let Some(rest) = lower
        .strip_prefix("https://")
        .or_else(|| lower.strip_prefix("http://"))
    else {
        return fail("does not begin with `https://` or `http://`");
    };
    if rest.starts_with('/') {
        return fail("has no host");
    }
    if text
        .bytes()
        .zip(text.bytes().skip(1))
        .zip(text.bytes().skip(2))
        .any(|((a, b), c)| is_escaped_control(a, b, c))
    {
        return fail("has an escaped control character");
    }
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    if path
        .split('/')
        .any(|part| matches!(part.replace("%2e", ".").as_str(), "." | ".."))
    {
        return fail("has a `.` or `..` in its path");
    }
    Ok(())
}

fn is_escaped_control(a: u8, b: u8, c: u8) -> bool {
    let digit = |b: u8| char::from(b).to_digit(16);
    a == b'%'
        && digit(b)
            .zip(digit(c))
            .is_some_and(|(high, low)| high * 16 + low < 0x20 || high * 16 + low == 0x7f)
}

impl TryFrom<String> for RepoUrl {
    type Error = InvalidRepoUrl;
    fn try_from(text: String) -> Result<Self, InvalidRepoUrl> {
        text.parse()
    }
}

impl From<RepoUrl> for String {
    fn from(url: RepoUrl) -> String {
        url.0.into()
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_of_a_repository_pass() {
        let long = format!("https://host/{}", "a".repeat(2048));
        let long_as_sent = format!("https://host/{}", "{".repeat(1000));
        for bad in [
            "",
            "file:///etc/passwd",
            "/srv/repo",
            "ssh://-oProxyCommand=x/y",
            "ext::sh -c x",
            "fd::17",
            "git://host/repo",
            "git@host:owner/repo",
            "--upload-pack=touch x",
            "HTTPS:/\\host/repo",
            "https:/host/repo",
            "https:///repo",
            "https://host",
            "https://host/",
            " https://host/r",
            "https://host/r\n",
            "https://ho\tst/r",
            "https://host/%0a",
            "https://host/r%00",
            "https://host/r%0D",
            "https://user@host/r",
            "https://user:pw@host/r",
            "https://host/r?x=1",
            "https://host/r#x",
            "https://host/../r",
            "https://host/a/%2e%2e/r",
            "https://host/a\\b",
            "javascript:x",
            &long,
            &long_as_sent,
        ] {
            assert!(bad.parse::<RepoUrl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_repository_has_one_spelling() {
        let url: RepoUrl = "HTTPS://GitHub.com:443/owner/repo.git/".parse().unwrap();
        assert_eq!(url.as_str(), "https://github.com/owner/repo.git");
        assert_eq!(url.identity(), "https://github.com/owner/repo");
        assert!(url.is_https());
    }

    #[test]
    fn an_error_does_not_repeat_a_password() {
        let error = "https://user:canary@host/r".parse::<RepoUrl>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
