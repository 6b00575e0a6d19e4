//! The settings of the client: which hosts, which bounds. It must not know how they are enforced.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use url::{Host, Url};

/// Where requests may go, and how long each wait may last.
#[derive(Debug, Clone)]
pub struct HttpPolicy {
    /// The hosts that may be reached; empty for all.
    pub allowed_hosts: Vec<HostPattern>,
    /// Whether private, loopback, link-local and other special addresses may be reached.
    ///
    /// It also allows plain `http`: on a private network a caller may choose it, on the public one a token must not travel in clear.
    pub allow_private: bool,
    /// Certificates (PEM) of authorities that are trusted besides the system's.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// The longest that resolving, connecting and the TLS handshake may take together.
    pub connect_timeout: Duration,
    /// The longest that a request may go without a byte, in either direction.
    pub idle_timeout: Duration,
    /// The `User-Agent` of requests that set none.
    pub user_agent: String,
}

impl Default for HttpPolicy {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            allow_private: false,
            extra_ca_pem: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            user_agent: concat!("mayfly/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl HttpPolicy {
    pub(crate) fn allows_host(&self, url: &Url) -> bool {
        self.allowed_hosts.is_empty() || self.allowed_hosts.iter().any(|pattern| pattern.matches(url))
    }
}

/// A host that may be reached: `host` (any port), `host:port`, or `*.host` for every name below a host (not the host itself).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    name: Name,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Exact(String),
    /// With its leading dot.
    Below(String),
}

/// Says that a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host; use `host`, `host:port` or `*.host`")]
pub struct InvalidHostPattern(String);

impl HostPattern {
    /// Whether the host and port of the URL fit.
    pub fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else {
            return false;
        };
        let host = host.trim_end_matches('.');
        let name_fits = match &self.name {
            Name::Exact(name) => host == name,
            Name::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        };
        name_fits
            && self
                .port
                .is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Exact(name) => f.write_str(name)?,
            Name::Below(suffix) => write!(f, "*{suffix}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let invalid = || InvalidHostPattern(text.to_owned());
        let (host, port) = split_port(text).ok_or_else(invalid)?;
        let (is_wildcard, host) = host.strip_prefix("*.").map_or((false, host), |rest| (true, rest));
        if host.contains('*') {
            return Err(invalid());
        }
        let host = plain_host(host).ok_or_else(invalid)?;
        let name = match (is_wildcard, &host) {
            (_, Host::Domain(domain)) if domain.contains('*') => return Err(invalid()),
            (false, _) => Name::Exact(host.to_string()),
            (true, Host::Domain(domain)) => Name::Below(format!(".{domain}")),
            (true, _) => return Err(invalid()),
        };
        Ok(Self { name, port })
    }
}

/// The host without its last dots, also where those are written with percent signs or in wide letters, and show only when the rest is read.
fn plain_host(text: &str) -> Option<Host> {
    let mut host = Host::parse(text.trim_end_matches('.')).ok()?;
    while let Host::Domain(domain) = &host
        && domain.ends_with('.')
    {
        host = Host::parse(domain.trim_end_matches('.')).ok()?;
    }
    Some(host)
}

/// Splits `host:port`; the host of an IPv6 address stands in brackets.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => Some((host, Some(port.parse().ok()?))),
        _ => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_hosts() {
        for (pattern, url, fits) in [
            ("github.com", "https://github.com/o/r", true),
            ("GitHub.com", "https://github.com./o/r", true),
            ("github.com", "https://github.com:8443/o/r", true),
            ("github.com", "https://api.github.com/o/r", false),
            ("github.com", "https://evilgithub.com/o/r", false),
            ("github.com:443", "https://github.com/o/r", true),
            ("github.com:443", "https://github.com:8443/o/r", false),
            ("*.corp.example", "https://git.corp.example/r", true),
            ("*.corp.example", "https://a.b.corp.example/r", true),
            ("*.corp.example", "https://corp.example/r", false),
            ("*.corp.example", "https://evilcorp.example/r", false),
            ("*.corp.example:8443", "https://git.corp.example/r", false),
            ("[::1]:80", "http://[::1]/r", true),
            ("[::1]", "http://[0:0::1]:8080/r", true),
            ("127.0.0.1", "http://2130706433/r", true),
            ("git%2Eexample%2e", "https://git.example/r", true),
            ("*.corp.example\u{ff0e}", "https://git.corp.example/r", true),
            ("127.0.0.1.%2e", "http://127.0.0.1/r", true),
        ] {
            let parsed: HostPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(&url.parse().unwrap()), fits, "{pattern} {url}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{pattern}");
        }
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "https://x",
            "a b",
            "x:port",
            "x:99999",
            "*.127.0.0.1",
            "a/b",
            "x@y",
            "%2e",
            "%2a.example",
            "809.....000..%2e..",
            "\u{ff0a}.example",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
