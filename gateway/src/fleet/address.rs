//! Where workers are, as settings say it: parsed once, at the edge.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use rustls::pki_types::ServerName;

use crate::fleet::local::LocalFleet;

/// The most addresses and names that one setting may list.
pub const MAX_SOURCES: usize = 2000;

/// The address of a worker: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerUrl {
    host: String,
    port: u16,
    /// The name that its certificate has to be for; `None` where it speaks plain HTTP.
    tls_name: Option<String>,
}

impl WorkerUrl {
    /// The host and the port, as in a `Host` header; an IPv6 address stands in brackets.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The name that its certificate has to be for; `None` where it speaks plain HTTP.
    pub(crate) fn tls_name(&self) -> Option<&str> {
        self.tls_name.as_deref()
    }
}

impl fmt::Display for WorkerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls_name.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for WorkerUrl {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        Self {
            host,
            port: address.port(),
            tls_name: None,
        }
    }
}

/// A name whose every address is a worker, as Swarm's `tasks.<service>` is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName {
    /// The name.
    pub name: String,
    /// The port, the same at each address.
    pub port: u16,
    /// Whether the workers speak TLS, with a certificate for the name.
    pub is_tls: bool,
}

impl DnsName {
    /// The worker at one of the addresses behind the name.
    pub(crate) fn at(&self, address: SocketAddr) -> WorkerUrl {
        WorkerUrl {
            tls_name: self.is_tls.then(|| self.name.clone()),
            ..WorkerUrl::from(address)
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "dns+https" } else { "dns" };
        write!(f, "{scheme}://{}:{}", self.name, self.port)
    }
}

/// Where the workers of one kind are.
#[derive(Debug, Clone)]
pub enum WorkerSource {
    /// At these addresses; none of them means that there are no workers of this kind.
    Static(Vec<WorkerUrl>),
    /// At every address behind a name, looked up again and again.
    Dns(DnsName),
    /// Processes of this machine, under a [`Supervisor`](crate::Supervisor).
    Local(LocalFleet),
    /// At all of these.
    Several(Vec<WorkerSource>),
}

impl WorkerSource {
    /// Whether any of the workers speaks TLS.
    pub(crate) fn asks_over_tls(&self) -> bool {
        match self {
            Self::Static(urls) => urls.iter().any(|url| url.tls_name.is_some()),
            Self::Dns(name) => name.is_tls,
            Self::Local(_) => false,
            Self::Several(sources) => sources.iter().any(Self::asks_over_tls),
        }
    }
}

impl Default for WorkerSource {
    fn default() -> Self {
        Self::Static(Vec::new())
    }
}

/// A setting does not say where workers are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` {reason}; list workers as `http://host:port`, `https://host:port`, `dns://name:port` or `dns+https://name:port`, separated by commas"
)]
pub struct InvalidWorkerSource {
    entry: String,
    reason: &'static str,
}

impl FromStr for WorkerSource {
    type Err = InvalidWorkerSource;

    /// Reads a comma-separated list; an empty one stands for no workers.
    fn from_str(text: &str) -> Result<Self, InvalidWorkerSource> {
        let (mut urls, mut sources) = (Vec::new(), Vec::new());
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match Address::parse(entry)? {
                Address::Http(url) => urls.push(url),
                Address::Dns(name) => sources.push(Self::Dns(name)),
            }
        }
        if urls.len() + sources.len() > MAX_SOURCES {
            return Err(InvalidWorkerSource {
                entry: format!("{} entries", urls.len() + sources.len()),
                reason: "are more than 2000",
            });
        }
        if !urls.is_empty() || sources.is_empty() {
            sources.insert(0, Self::Static(urls));
        }
        Ok(match sources.pop() {
            Some(only) if sources.is_empty() => only,
            last => Self::Several(sources.into_iter().chain(last).collect()),
        })
    }
}

impl FromStr for WorkerUrl {
    type Err = InvalidWorkerSource;
    fn from_str(text: &str) -> Result<Self, InvalidWorkerSource> {
        match Address::parse(text)? {
            Address::Http(url) => Ok(url),
            Address::Dns(_) => Err(InvalidWorkerSource {
                entry: text.to_owned(),
                reason: "is a name for several workers",
            }),
        }
    }
}

enum Address {
    Http(WorkerUrl),
    Dns(DnsName),
}

impl Address {
    fn parse(entry: &str) -> Result<Self, InvalidWorkerSource> {
        let url = url::Url::parse(entry).ok().filter(|_| entry.contains("://"));
        let url = url.ok_or_else(|| invalid(entry, "is not a URL"))?;
        let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        if has_more || !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(entry, "has more than a scheme, a host and a port"));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid(entry, "has no host"))?.to_owned();
        match url.scheme() {
            scheme @ ("http" | "https") => Ok(Self::Http(WorkerUrl {
                port: url
                    .port_or_known_default()
                    .ok_or_else(|| invalid(entry, "has no port"))?,
                tls_name: tls_name(entry, &host, scheme == "https")?,
                host,
            })),
            scheme @ ("dns" | "dns+https") => {
                let port = url.port().ok_or_else(|| invalid(entry, "has no port"))?;
                let is_tls = tls_name(entry, &host, scheme == "dns+https")?.is_some();
                Ok(Self::Dns(DnsName {
                    name: host,
                    port,
                    is_tls,
                }))
            }
            _ => Err(invalid(
                entry,
                "has another scheme than `http`, `https`, `dns` and `dns+https`",
            )),
        }
    }
}

/// The name that the certificate of a host has to be for; an IPv6 address stands there without its brackets.
fn tls_name(entry: &str, host: &str, is_tls: bool) -> Result<Option<String>, InvalidWorkerSource> {
    if !is_tls {
        return Ok(None);
    }
    let name = host.trim_start_matches('[').trim_end_matches(']');
    match ServerName::try_from(name) {
        Ok(_) => Ok(Some(name.to_owned())),
        Err(_) => Err(invalid(entry, "has a host that no certificate can be for")),
    }
}

/// A password that somebody put before an `@` stays out of logs.
fn invalid(entry: &str, reason: &'static str) -> InvalidWorkerSource {
    let shown = entry.rsplit_once('@').map_or(entry, |(_, host)| host);
    InvalidWorkerSource {
        entry: shown.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &WorkerSource) -> String {
        match source {
            WorkerSource::Static(urls) => urls.iter().map(|url| format!("{url} ")).collect(),
            WorkerSource::Dns(name) => format!("{name} "),
            WorkerSource::Local(_) => "local ".to_owned(),
            WorkerSource::Several(all) => all.iter().map(shown).collect(),
        }
    }

    #[test]
    fn lists_are_read() {
        for (text, expected) in [
            ("", ""),
            ("http://a:1", "http://a:1 "),
            (" http://a:1/ , http://[::1]:2 ,", "http://a:1 http://[::1]:2 "),
            ("dns://tasks.git-worker:5002", "dns://tasks.git-worker:5002 "),
            ("dns://x:1,http://a:2", "http://a:2 dns://x:1 "),
            ("http://a", "http://a:80 "),
            (
                "https://a:1,https://[::1]:2,https://a",
                "https://a:1 https://[::1]:2 https://a:443 ",
            ),
            ("dns+https://x:1", "dns+https://x:1 "),
        ] {
            assert_eq!(
                text.parse::<WorkerSource>().map(|source| shown(&source)),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_entries_are_named_without_their_secrets() {
        for (text, reason) in [
            ("localhost", "is not a URL"),
            ("localhost:80", "is not a URL"),
            ("http://user:canary@:1", "is not a URL"),
            ("dns://:1", "is not a URL"),
            ("https://a_b%20c:1", "is not a URL"),
            ("dns+https://a..b:1", "no certificate"),
            ("dns://a", "has no port"),
            ("http://a:1/path", "has more than"),
            ("http://user:canary@a:1", "has more than"),
            ("ftp://a:1", "has another scheme"),
            ("http://a:1,x", "is not a URL"),
        ] {
            let error = text.parse::<WorkerSource>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
