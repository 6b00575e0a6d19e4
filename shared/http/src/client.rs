//! Sends requests: the checks before each hop, the bounds on waiting, and the rule for redirects.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use crate::error::{HostRefusal, HttpError, host_of};
use crate::policy::HttpPolicy;
use crate::request::{Activity, Request, Upload};
use crate::resolve::{GuardedResolver, may_reach};
use crate::response::Response;
use crate::tls;
use crate::traffic::Traffic;

/// The most redirects that one request follows.
const MAX_REDIRECTS: usize = 3;
/// How long an unused connection is kept for the next request.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The client could not be made from its policy.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The extra authorities cannot be read.
    #[error("the extra CA file holds no certificate in PEM form, or one that cannot be read")]
    ExtraCa,
    /// The TLS library refuses its settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP library refuses its settings.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// An HTTP client that reaches only what its policy allows. Clones share their connections.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    inner: reqwest::Client,
    policy: std::sync::Arc<HttpPolicy>,
    traffic: Traffic,
}

impl GuardedClient {
    /// Makes a client; it opens no connection yet.
    pub fn new(policy: HttpPolicy) -> Result<Self, BuildError> {
        let tls = tls::client_config(policy.extra_ca_pem.as_deref())?;
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(GuardedResolver {
                allow_private: policy.allow_private,
            })
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .connect_timeout(policy.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(&policy.user_agent)
            .build()
            .map_err(BuildError::Client)?;
        Ok(Self {
            inner,
            policy: std::sync::Arc::new(policy),
            traffic: Traffic::default(),
        })
    }

    /// The bytes that this client and its clones have moved so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// A `GET` follows at most 3 redirects, and only within its origin (scheme, host and port); any other redirect is an error.
    pub async fn send(&self, request: Request, cancel: &CancellationToken) -> Result<Response, HttpError> {
        let follows = request.method == Method::GET;
        let headers = request.headers.clone();
        let mut response = self.send_once(request, cancel).await?;
        let mut followed = 0;
        while let Some(target) = redirect_target(&response)? {
            if !follows || followed == MAX_REDIRECTS {
                return Err(refuse_redirect(&response.url, &target, why_not(follows)));
            }
            if target.origin() != response.url.origin() {
                return Err(refuse_redirect(&response.url, &target, "it is another origin"));
            }
            followed += 1;
            response = self.send_once(again(target, &headers), cancel).await?;
        }
        Ok(response)
    }

    async fn send_once(&self, request: Request, cancel: &CancellationToken) -> Result<Response, HttpError> {
        self.check(&request.url)?;
        let url = request.url.clone();
        let activity = Activity::starting_now();
        let sending = self.dispatch(request, &activity);
        let idle = self.policy.idle_timeout;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(HttpError::Cancelled),
            sent = sending => match sent {
                Ok(inner) => Ok(self.response(inner, url, cancel)),
                Err(error) => Err(self.sort(error, &url)),
            },
            () = activity.silence(idle) => Err(HttpError::Timeout { host: host_of(&url), idle }),
        }
    }

    /// Refuses what the URL alone gives away; names are judged again by their addresses, when a connection is made.
    fn check(&self, url: &Url) -> Result<(), HttpError> {
        let refuse = |why| {
            let host = host_of(url);
            Err(HttpError::HostRefused { host, why })
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(HostRefusal::Scheme);
        }
        if !self.policy.allows_host(url) {
            return refuse(HostRefusal::NotAllowed);
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if literal.is_some_and(|address| !may_reach(address, self.policy.allow_private)) {
            return refuse(HostRefusal::PrivateAddress);
        }
        if url.scheme() == "http" && !self.policy.allow_private {
            return refuse(HostRefusal::NotEncrypted);
        }
        Ok(())
    }

    async fn dispatch(
        &self,
        request: Request,
        activity: &Activity,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let has_body = !request.body.is_empty() || request.method == Method::POST;
        let mut builder = self
            .inner
            .request(request.method, request.url)
            .headers(request.headers);
        if has_body {
            builder = builder.body(reqwest::Body::wrap(Upload::new(
                request.body,
                activity.clone(),
                self.traffic.clone(),
            )));
        }
        builder.send().await
    }

    fn response(&self, inner: reqwest::Response, url: Url, cancel: &CancellationToken) -> Response {
        Response {
            status: inner.status(),
            headers: inner.headers().clone(),
            url,
            inner,
            idle_timeout: self.policy.idle_timeout,
            cancel: cancel.clone(),
            traffic: self.traffic.clone(),
        }
    }

    fn sort(&self, error: reqwest::Error, url: &Url) -> HttpError {
        if error.is_connect() && error.is_timeout() {
            let idle = self.policy.connect_timeout;
            return HttpError::Timeout {
                host: host_of(url),
                idle,
            };
        }
        HttpError::from_reqwest(error, host_of(url))
    }
}

/// Where a response redirects to, if it does.
fn redirect_target(response: &Response) -> Result<Option<Url>, HttpError> {
    let is_redirect = matches!(
        response.status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return Ok(None);
    }
    response
        .headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|location| response.url.join(location).ok())
        .map(Some)
        .ok_or_else(|| HttpError::Protocol {
            host: host_of(&response.url),
            source: "it redirects without saying where to".into(),
        })
}

fn why_not(follows: bool) -> &'static str {
    if follows {
        "there were three redirects before it"
    } else {
        "only reading requests follow redirects"
    }
}

fn refuse_redirect(from: &Url, to: &Url, why: &'static str) -> HttpError {
    HttpError::RedirectRefused {
        host: host_of(from),
        to_origin: to.origin().ascii_serialization(),
        why,
    }
}

fn again(url: Url, headers: &HeaderMap) -> Request {
    let mut request = Request::get(url);
    request.headers = headers.clone();
    request
}
