//! The two requests of git over HTTP (gitprotocol-http(5)): `GET info/refs`, and `POST` to a service.

use std::time::SystemTime;

use mayfly_http::{Body, GuardedClient, HeaderName, HeaderValue, Request, Response, Url, header};
use tokio_util::sync::CancellationToken;

use super::packet::Packets;
use super::status::{check_status, check_type};
use super::{Remote, RemoteError, TransferLimits};

/// The program on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    UploadPack,
    ReceivePack,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }
}

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
const VERSION_2: HeaderValue = HeaderValue::from_static("version=2");
/// Some hosts serve git to programs only whose name begins with `git/`.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("git/2.40 (mayfly ", env!("CARGO_PKG_VERSION"), ")"));
/// Where the refs of a repository are listed, below its address.
const INFO_REFS: &str = "/info/refs";

/// A conversation with one service of one repository.
pub(crate) struct Exchange {
    client: GuardedClient,
    remote: Remote,
    service: Service,
    limits: TransferLimits,
    cancel: CancellationToken,
    /// Where the repository really is, after a redirect within its origin.
    base: Url,
}

impl Exchange {
    pub(crate) fn new(
        client: &GuardedClient,
        remote: &Remote,
        service: Service,
        limits: &TransferLimits,
        cancel: &CancellationToken,
    ) -> Self {
        Self {
            client: client.clone(),
            remote: remote.clone(),
            service,
            limits: limits.clone(),
            cancel: cancel.clone(),
            base: remote.url.as_url().clone(),
        }
    }

    /// The same conversation, to be ended by another token.
    pub(crate) fn cancelled_by(self, cancel: &CancellationToken) -> Self {
        let cancel = cancel.clone();
        Self { cancel, ..self }
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    pub(crate) fn limits(&self) -> &TransferLimits {
        &self.limits
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Asks for the refs and capabilities. Fetches ask for protocol v2, which a server may ignore.
    pub(crate) async fn advertisement(&mut self) -> Result<Packets, RemoteError> {
        let mut url = self.below(INFO_REFS);
        url.set_query(Some(&format!("service={}", self.service.name())));
        let mut request = Request::get(url);
        if self.service == Service::UploadPack {
            request = request.header(GIT_PROTOCOL, VERSION_2);
        }
        let response = self.send(request, "advertisement").await?;
        self.follow(&response.url);
        Ok(Packets::new(&self.remote.url, response, &self.limits))
    }

    /// Sends a request to the service.
    pub(crate) async fn post(&self, body: impl Into<Body>, version_2: bool) -> Result<Packets, RemoteError> {
        let name = self.service.name();
        let media_type = |kind| HeaderValue::try_from(format!("application/x-{name}-{kind}"));
        let mut request = Request::post(self.below(&format!("/{name}"))).body(body);
        for (header, kind) in [(header::CONTENT_TYPE, "request"), (header::ACCEPT, "result")] {
            if let Ok(value) = media_type(kind) {
                request = request.header(header, value);
            }
        }
        if version_2 {
            request = request.header(GIT_PROTOCOL, VERSION_2);
        }
        let response = self.send(request, "result").await?;
        Ok(Packets::new(&self.remote.url, response, &self.limits))
    }

    async fn send(&self, request: Request, kind: &str) -> Result<Response, RemoteError> {
        let url = &self.remote.url;
        let request = self.authorised(request.header(header::USER_AGENT, USER_AGENT))?;
        let response = self.client.send(request, &self.cancel).await?;
        check_status(url, response.status, &response.headers, SystemTime::now())?;
        let wanted = format!("application/x-{}-{kind}", self.service.name());
        check_type(url, &response.headers, &wanted)?;
        Ok(response)
    }

    fn authorised(&self, request: Request) -> Result<Request, RemoteError> {
        let Some(credential) = &self.remote.credential else {
            return Ok(request);
        };
        let url = || self.remote.url.clone();
        let value = credential
            .header()
            .ok_or_else(|| RemoteError::AuthenticationFailed { url: url() })?;
        Ok(request.header(header::AUTHORIZATION, value))
    }

    fn below(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    /// Takes a redirect of the first request over for those that follow. It is within the origin: the client follows no other.
    fn follow(&mut self, answered: &Url) {
        if let Some(path) = answered.path().strip_suffix(INFO_REFS) {
            self.base.set_path(path);
        }
    }
}
