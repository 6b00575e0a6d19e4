//! The gateway's paths. Each handler parses, asks a module that knows, and answers; every refusal is JSON with a code.
//!
//! The header `Idempotency-Key` is refused with 400: see [`crate`].

mod cancel;
mod fleet;
mod job_list;
mod post_job;
mod sessions;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use http::Request;
use mayfly_protocol::{ErrorCode, JobKind, Refusal};
use mayfly_server::refuse;
use tower_http::catch_panic::CatchPanicLayer;

use crate::state::Gateway;

/// Every path of a gateway.
pub(crate) fn router(gateway: &Arc<Gateway>) -> Router {
    let mut router = Router::new()
        .route("/health", get(fleet::health))
        .route("/ready", get(fleet::ready))
        .route("/status", get(fleet::status))
        .route("/workers", get(fleet::workers))
        .route("/jobs", get(job_list::list))
        .route("/jobs/{id}", get(job_list::one))
        .route("/jobs/{id}/events", get(job_list::events))
        .route("/jobs/{id}/cancel", post(cancel::cancel))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(sessions::one).delete(sessions::delete))
        .route("/sessions/{id}/diff", get(sessions::diff))
        .route("/sessions/{id}/files/{*path}", get(sessions::file))
        .route("/sessions/{id}/archive", get(sessions::archive));
    for kind in JobKind::ALL.iter().copied() {
        let handler = move |State(gateway): State<Arc<Gateway>>, request: Request<Body>| async move {
            answer(post_job::take(&gateway, kind, request).await)
        };
        router = router.route(kind.path(), post(handler));
    }
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(refuse::panicked))
        .with_state(Arc::clone(gateway))
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
