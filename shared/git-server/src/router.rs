//! The one handler: understand, authorise, find, run. It must not know how git is run.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::{info, warn};

use crate::access::{self, Verdict};
use crate::cgi::{self, CgiError};
use crate::config::{GitServerConfig, Limits};
use crate::route::Route;

/// The git host as a router, for those who serve it themselves (TLS, faults). See [`crate::GitServer`] for the plain way.
pub fn router(config: GitServerConfig) -> Router {
    router_with(config, Limits::default())
}

/// The same with bounds of one's own.
pub fn router_with(config: GitServerConfig, limits: Limits) -> Router {
    Router::new()
        .fallback(serve)
        .with_state(Arc::new(Host { config, limits }))
}

struct Host {
    config: GitServerConfig,
    limits: Limits,
}

/// Refuses in order: 404 for what no git client asks, 401, 403, and only then 404 for a repository that is absent.
async fn serve(State(host): State<Arc<Host>>, request: Request) -> Response {
    let Some(route) = Route::parse(request.method(), request.uri()) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "Not found: this host speaks git's smart HTTP protocol only.",
        );
    };
    let authorization = request.headers().get(header::AUTHORIZATION);
    let config = &host.config;
    let user = match access::decide(
        &config.tokens,
        config.anonymous,
        authorization,
        route.service.needs(),
    ) {
        Verdict::Granted { user } => user,
        Verdict::Unknown => return challenge(),
        Verdict::Forbidden => {
            return refuse(
                StatusCode::FORBIDDEN,
                "This token does not allow that on this repository.",
            );
        }
    };
    let head = route.repository.folder(&config.root).join("HEAD");
    if !tokio::fs::try_exists(head).await.unwrap_or(false) {
        return refuse(StatusCode::NOT_FOUND, "Repository not found.");
    }
    let (parts, body) = request.into_parts();
    let answered = cgi::answer(&config.root, user.as_deref(), &parts, body, &host.limits).await;
    answered.unwrap_or_else(|error| failed(&route, &error))
}

fn failed(route: &Route, error: &CgiError) -> Response {
    let cause = error.source().map(ToString::to_string);
    if let CgiError::Request(_) = error {
        info!(repository = %route.repository, cause, "{error}");
        return refuse(
            StatusCode::BAD_REQUEST,
            "The request could not be read to its end.",
        );
    }
    warn!(repository = %route.repository, cause, "{error}");
    refuse(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The git host failed; its log says why.",
    )
}

fn challenge() -> Response {
    let mut response = refuse(
        StatusCode::UNAUTHORIZED,
        "Authentication is needed: no token, or one that is not known.",
    );
    let basic = HeaderValue::from_static("Basic realm=\"git\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    response
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    (status, format!("{text}\n")).into_response()
}
