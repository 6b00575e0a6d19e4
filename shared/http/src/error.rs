//! Why a request failed. The texts name the host, and neither the path, the query nor a header.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use mayfly_protocol::ErrorCode;
use rustls::CertificateError;
use url::Url;

use crate::resolve::OnlyPrivate;

type Source = Box<dyn Error + Send + Sync>;

/// Why a request was not sent, or its response not received.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The policy does not allow this host or its address.
    #[error("`{host}` may not be reached: {why}")]
    HostRefused {
        /// The host.
        host: String,
        /// Which rule it is against.
        why: HostRefusal,
    },
    /// The name does not resolve.
    #[error("the host name `{host}` does not resolve; check its spelling")]
    HostUnknown {
        /// The host.
        host: String,
        /// What the resolver said.
        #[source]
        source: Source,
    },
    /// No connection, or a broken one.
    #[error("`{host}` cannot be reached: {what}")]
    Unreachable {
        /// The host.
        host: String,
        /// What happened.
        what: &'static str,
        /// What the connection said.
        #[source]
        source: Source,
    },
    /// The host did not connect in time, or sent and took nothing for too long.
    #[error("`{host}` was silent for longer than {}s", idle.as_secs_f32())]
    Timeout {
        /// The host.
        host: String,
        /// The bound that was exceeded.
        idle: Duration,
    },
    /// The certificate is not trusted, or the handshake failed.
    #[error("no trusted TLS connection to `{host}`: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong with the certificate or the handshake.
        reason: &'static str,
        /// What the TLS library said.
        #[source]
        source: Source,
    },
    /// A redirect that is not followed.
    #[error("`{host}` redirects to {to_origin}, which is not followed: {why}")]
    RedirectRefused {
        /// The host that redirects.
        host: String,
        /// Where to: scheme, host and port only.
        to_origin: String,
        /// Which rule it is against.
        why: &'static str,
    },
    /// The body is longer than the caller takes.
    #[error("the answer of `{host}` is longer than {max} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The most that the caller takes.
        max: usize,
    },
    /// The caller cancelled the request.
    #[error("the request was cancelled")]
    Cancelled,
    /// The answer is not HTTP.
    #[error("`{host}` does not answer in proper HTTP")]
    Protocol {
        /// The host.
        host: String,
        /// What is wrong with the answer.
        #[source]
        source: Source,
    },
}

/// Why a host may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRefusal {
    /// It is not among the allowed hosts.
    NotAllowed,
    /// Its address is private, loopback, link-local or otherwise special.
    PrivateAddress,
    /// The URL is plain `http`, which is for private networks only.
    NotEncrypted,
    /// The URL is neither `http` nor `https`.
    Scheme,
}

impl fmt::Display for HostRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowed => "it is not among the allowed hosts",
            Self::PrivateAddress => "its address is private, loopback, link-local or otherwise not public",
            Self::NotEncrypted => "plain http is allowed to private networks only; use https",
            Self::Scheme => "only http and https are spoken",
        })
    }
}

impl HttpError {
    /// The code of the wire contract for this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::HostRefused { .. } => ErrorCode::HostRefused,
            Self::HostUnknown { .. } => ErrorCode::HostUnknown,
            Self::Unreachable { .. } => ErrorCode::RemoteUnreachable,
            Self::Timeout { .. } => ErrorCode::RemoteTimeout,
            Self::Tls { .. } => ErrorCode::TlsFailed,
            Self::RedirectRefused { .. } => ErrorCode::RedirectRefused,
            Self::TooLarge { .. } | Self::Protocol { .. } => ErrorCode::RemoteProtocol,
            Self::Cancelled => ErrorCode::Cancelled,
        }
    }

    /// Sorts an error of the HTTP library by its causes. Its own text is not kept: it repeats the URL.
    pub(crate) fn from_reqwest(error: reqwest::Error, host: String) -> Self {
        let error = error.without_url();
        if find::<OnlyPrivate>(&error).is_some() {
            let why = HostRefusal::PrivateAddress;
            return Self::HostRefused { host, why };
        }
        if error.is_dns() {
            let source = error.into();
            return Self::HostUnknown { host, source };
        }
        if let Some(cause) = find::<rustls::Error>(&error) {
            let reason = tls_reason(cause);
            let source = error.into();
            return Self::Tls { host, reason, source };
        }
        let is_parse = find::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse);
        if is_parse || is_bad_framing(&error) {
            let source = error.into();
            return Self::Protocol { host, source };
        }
        let what = connection_fault(&error);
        let source = error.into();
        Self::Unreachable { host, what, source }
    }
}

/// The host of a URL, for people; with its port if it is not the usual one.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Finds a cause by its type. `io::Error` hides the error that it wraps from `source()`, so it is opened.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = current
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        next = wrapped.or_else(|| current.source());
    }
    None
}

fn is_bad_framing(error: &reqwest::Error) -> bool {
    find::<io::Error>(error).is_some_and(|io| {
        matches!(
            io.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
        )
    })
}

fn connection_fault(error: &reqwest::Error) -> &'static str {
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "it refuses connections",
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "there is no route to it",
        _ if error.is_timeout() => "it does not accept connections in time",
        _ if error.is_connect() => "the connection could not be made",
        _ => "the connection broke",
    }
}

fn tls_reason(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return "the handshake failed";
    };
    match certificate {
        CertificateError::UnknownIssuer => {
            "its certificate is from an unknown authority; name the authority's file in the settings if it is yours"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        CertificateError::Revoked => "its certificate is revoked",
        _ => "its certificate is not acceptable",
    }
}
