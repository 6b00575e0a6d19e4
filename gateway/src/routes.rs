//! The gateway's paths. Each handler parses, asks a module that knows, and answers; every refusal is JSON with a code.

mod cancel;
mod docs;
mod fleet;
pub(crate) mod job_list;
mod metrics;
mod openapi;
mod post_job;
mod sessions;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use http::Request;
use mayfly_protocol::{ErrorCode, JobKind, Refusal};
use mayfly_server::refuse;
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::{Caller, Scope};
use crate::state::Gateway;

/// Paths that are open to everybody: whoever restarts or replaces gateways has no key, and a browser that is to show a page sends none.
const OPEN: &[&str] = &["/health", "/ready", openapi::PATH, docs::PATH];

/// Who sent the request, as handlers get it.
type Asking = Extension<Arc<Caller>>;

/// Every path of a gateway.
pub(crate) fn router(gateway: &Arc<Gateway>) -> Router {
    Router::new()
        .route("/health", get(fleet::health))
        .route("/ready", get(fleet::ready))
        .route(openapi::PATH, get(openapi::document))
        .route(docs::PATH, get(docs::page))
        .route("/docs/{file}", get(docs::file))
        .merge(for_scopes(operating(), &[Scope::Operate]))
        .merge(for_scopes(reading(), &[Scope::Read]))
        .merge(for_scopes(following(), &[Scope::Read, Scope::Jobs]))
        .merge(for_scopes(auditing(), Scope::ALL))
        .merge(for_scopes(working(), &[Scope::Jobs]))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(gateway), admit))
        .layer(CatchPanicLayer::custom(refuse::panicked))
        .layer(middleware::from_fn_with_state(
            Arc::clone(gateway),
            metrics::count,
        ))
        .with_state(Arc::clone(gateway))
}

fn operating() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/status", get(fleet::status))
        .route("/metrics", get(metrics::metrics))
        .route("/workers", get(fleet::workers))
}

fn reading() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(sessions::one))
        .route("/sessions/{id}/diff", get(sessions::diff))
        .route("/sessions/{id}/files/{*path}", get(sessions::file))
        .route("/sessions/{id}/archive", get(sessions::archive))
}

fn following() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/jobs", get(job_list::list))
        .route("/jobs/{id}", get(job_list::one))
        .route("/jobs/{id}/events", get(job_list::events))
}

fn auditing() -> Router<Arc<Gateway>> {
    Router::new().route("/jobs/{id}/deliveries", get(job_list::deliveries))
}

fn working() -> Router<Arc<Gateway>> {
    let mut router = Router::new()
        .route("/jobs/{id}/cancel", post(cancel::cancel))
        .route("/sessions/{id}", delete(sessions::delete))
        .route("/sessions/{id}/pin", put(sessions::pin).delete(sessions::unpin));
    for kind in JobKind::ALL.iter().copied() {
        let handler = move |State(gateway): State<Arc<Gateway>>,
                            Extension(caller): Asking,
                            request: Request<Body>| async move {
            answer(post_job::take(&gateway, &caller, kind, request).await)
        };
        router = router.route(kind.path(), post(handler));
    }
    router
}

/// These paths, for callers with one of the scopes.
fn for_scopes(router: Router<Arc<Gateway>>, wanted: &'static [Scope]) -> Router<Arc<Gateway>> {
    let check = move |Extension(caller): Asking, request: Request<Body>, next: Next| async move {
        match caller.check_any(wanted) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refuse::response(&refusal),
        }
    };
    router.route_layer(middleware::from_fn(check))
}

/// Finds out who sent the request, before anything else is looked at.
async fn admit(State(gateway): State<Arc<Gateway>>, mut request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) || path.starts_with(docs::FOLDER) {
        return next.run(request).await;
    }
    match gateway.access.admit(request.uri(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refuse::response(&refusal),
    }
}

fn answer(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|refusal| refuse::response(&refusal))
}

async fn unknown_path() -> Response {
    refuse::response(&Refusal::new(
        ErrorCode::NotFound,
        "this gateway has no such path; jobs are posted to `/clone-repository`, `/create-branch`, `/commit-and-push`, `/apply-changes` and `/code-operation`",
    ))
}

async fn wrong_method() -> Response {
    refuse::response(&Refusal::new(
        ErrorCode::MethodNotAllowed,
        "this path takes another method; the header `allow` names it",
    ))
}
