//! `GET /sessions`, `/sessions/{id}` with its diff, files and archive; `DELETE /sessions/{id}`; `PUT` and `DELETE /sessions/{id}/pin`.

pub(super) mod shown;

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use mayfly_protocol::path::check_path;
use mayfly_protocol::{ErrorCode, InvalidId, Refusal, SessionId, TenantId};
use mayfly_queue::Lane;
use mayfly_server::refuse::json;
use mayfly_session::view::{LfsPart, UnifiedPatch};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::{Asking, answer};
use crate::sessions::{Sessions, archive_stream};
use crate::state::Gateway;
use shown::{Pinned, Removed, SessionDetail, SessionList};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;
const PATCH_TYPE: &str = "text/x-diff";

type IdPath = Result<Path<String>, PathRejection>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffQuery {
    format: Option<DiffFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DiffFormat {
    Json,
    Patch,
}

pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    answer(list_page(&gateway, &caller.tenant, query).await)
}

async fn list_page(
    gateway: &Gateway,
    tenant: &TenantId,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let sessions = configured(gateway)?;
    let Query(query) =
        query.map_err(|_| invalid("the query may have `limit` (a number) and `after` (a session's id)"))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    let limit = NonZeroUsize::new(limit)
        .filter(|limit| limit.get() <= MAX_LIMIT)
        .ok_or_else(|| invalid(format!("`limit` is not between 1 and {MAX_LIMIT}")).with_field("limit"))?;
    let after = query.after.map(|text| session_id(&text, "after")).transpose()?;
    let _place = sessions.reading()?;
    let store = sessions.store(tenant.clone());
    let page = sessions.in_time(store.page(after.as_ref(), limit)).await?;
    let pinned = sessions.in_time(sessions.pinned(&store, &page)).await?;
    Ok(json(StatusCode::OK, &SessionList::new(page, &pinned)))
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: IdPath,
) -> Response {
    answer(show(&gateway, &caller.tenant, id).await)
}

async fn show(gateway: &Gateway, tenant: &TenantId, id: IdPath) -> Result<Response, Refusal> {
    let sessions = configured(gateway)?;
    let id = path_id(id)?;
    let _place = sessions.reading()?;
    let store = sessions.store(tenant.clone());
    let manifest = sessions.load(&store, &id).await?;
    let pinned = sessions.in_time(store.is_pinned(&manifest)).await?;
    Ok(json(StatusCode::OK, &SessionDetail::new(&manifest, pinned)))
}

pub(super) async fn pin(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: IdPath,
) -> Response {
    answer(set_pin(&gateway, &caller.tenant, id, true).await)
}

pub(super) async fn unpin(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: IdPath,
) -> Response {
    answer(set_pin(&gateway, &caller.tenant, id, false).await)
}

async fn set_pin(
    gateway: &Gateway,
    tenant: &TenantId,
    id: IdPath,
    pinned: bool,
) -> Result<Response, Refusal> {
    let sessions = configured(gateway)?;
    let session_id = path_id(id)?;
    let _place = sessions.reading()?;
    sessions.set_pin(tenant.clone(), &session_id, pinned).await?;
    Ok(json(StatusCode::OK, &Pinned { session_id, pinned }))
}

pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: IdPath,
) -> Response {
    answer(remove(&gateway, &caller.tenant, id).await)
}

/// The check for jobs spares them a lost save; what keeps the session whole is the swap in the storage.
async fn remove(gateway: &Gateway, tenant: &TenantId, id: IdPath) -> Result<Response, Refusal> {
    let sessions = configured(gateway)?;
    let id = path_id(id)?;
    if gateway.draining.is_cancelled() {
        let text = "the gateway is shutting down, and deletes nothing; send this to the one that follows";
        return Err(Refusal::new(ErrorCode::ShuttingDown, text));
    }
    let lane = Lane {
        tenant: tenant.clone(),
        session: id.clone(),
    };
    if gateway.is_busy(&lane).await {
        let text = format!("a job of session `{id}` runs or waits; delete the session when it has ended");
        return Err(Refusal::new(ErrorCode::SessionBusy, text));
    }
    let deleted = sessions.delete(tenant.clone(), &id).await?;
    tracing::info!(session.id = %id, objects = deleted.objects, "deleted a session");
    Ok(json(StatusCode::OK, &Removed::new(id, deleted)))
}

pub(super) async fn diff(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: IdPath,
    query: Result<Query<DiffQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    answer(show_diff(&gateway, &caller.tenant, id, query, &headers).await)
}

async fn show_diff(
    gateway: &Gateway,
    tenant: &TenantId,
    id: IdPath,
    query: Result<Query<DiffQuery>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let sessions = configured(gateway)?;
    let id = path_id(id)?;
    let Query(query) =
        query.map_err(|_| invalid("the query may have `format`: `json` or `patch`").with_field("format"))?;
    let format = query.format.unwrap_or_else(|| accepted(headers));
    let look = sessions.look(tenant.clone(), &id).await?;
    match format {
        DiffFormat::Json => Ok(json(StatusCode::OK, &sessions.in_time(look.view.diff()).await?)),
        DiffFormat::Patch => Ok(patch_answer(&sessions.in_time(look.view.patch()).await?)),
    }
}

/// The patch format, where the client names it and does not refuse it.
fn accepted(headers: &HeaderMap) -> DiffFormat {
    let values = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(','));
    let names_patch = types.any(|kind| {
        let name = kind.split(';').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case(PATCH_TYPE)
    });
    match names_patch {
        true => DiffFormat::Patch,
        false => DiffFormat::Json,
    }
}

/// What is left out is said in a header for programs, and in lines before the diff, which every program that applies diffs passes over.
fn patch_answer(patch: &UnifiedPatch) -> Response {
    let omitted = format!(
        "files={}; hunks={}; binary={}",
        patch.omitted_files, patch.omitted_hunks, patch.binary_files
    );
    let mut text = Vec::new();
    if !patch.is_whole() {
        let said = format!(
            "# Not everything is in this diff. Of {} changed files, {} are left out, {} are without their hunks since these are too long, and {} are \
             without since they are binary or too large to be compared.\n",
            patch.files_changed, patch.omitted_files, patch.omitted_hunks, patch.binary_files
        );
        text.extend_from_slice(said.as_bytes());
    }
    text.extend_from_slice(&patch.text);
    let mut response = content(Body::from(text), PATCH_TYPE);
    let value = HeaderValue::try_from(omitted).expect("numbers and letters are a header's value");
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-diff-omitted"), value);
    response
}

pub(super) async fn file(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    uri: Uri,
) -> Response {
    answer(show_file(&gateway, &caller.tenant, &uri).await)
}

async fn show_file(gateway: &Gateway, tenant: &TenantId, uri: &Uri) -> Result<Response, Refusal> {
    let sessions = configured(gateway)?;
    let (id, path) = file_address(uri)?;
    let look = sessions.look(tenant.clone(), &id).await?;
    let file = sessions.in_time(look.view.file(&path)).await?;
    let is_text = !file.bytes.contains(&0) && std::str::from_utf8(&file.bytes).is_ok();
    let kind = match is_text {
        true => "text/plain; charset=utf-8",
        false => "application/octet-stream",
    };
    let mode = HeaderValue::try_from(format!("{:06o}", file.mode)).expect("digits are a header's value");
    let mut response = content(Body::from(file.bytes), kind);
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-file-mode"), mode);
    let lfs = file.lfs.map(|part| match part {
        LfsPart::Content => "content",
        LfsPart::Pointer => "pointer",
    });
    if let Some(lfs) = lfs {
        let name = HeaderName::from_static("x-git-lfs");
        response.headers_mut().insert(name, HeaderValue::from_static(lfs));
    }
    Ok(response)
}

/// The session and the checked path. The path is taken as bytes, since git's names need not be UTF-8.
fn file_address(uri: &Uri) -> Result<(SessionId, Vec<u8>), Refusal> {
    let rest = uri.path().strip_prefix("/sessions/").unwrap_or_default();
    let (id, rest) = rest.split_once('/').unwrap_or_default();
    let path = rest.strip_prefix("files/").unwrap_or_default();
    let id = percent_decode_str(id).decode_utf8_lossy();
    let path: Vec<u8> = percent_decode_str(path).collect();
    check_path(&path).map_err(|error| {
        let text = format!("the path of the file {error}; give one relative to the repository's root");
        Refusal::new(ErrorCode::PathRefused, text).with_field("path")
    })?;
    Ok((session_id(&id, "sessionId")?, path))
}

pub(super) async fn archive(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Asking,
    id: IdPath,
) -> Response {
    answer(show_archive(&gateway, &caller.tenant, id).await)
}

async fn show_archive(gateway: &Gateway, tenant: &TenantId, id: IdPath) -> Result<Response, Refusal> {
    let sessions = configured(gateway)?;
    let id = path_id(id)?;
    let look = sessions.look_for_archive(tenant.clone(), &id).await?;
    let archive = sessions.prepared(look.view.archive()).await?;
    let body = archive_stream::body(sessions, archive, look.into_place());
    let mut response = content(body, "application/zstd");
    let name = format!("attachment; filename=\"{id}.tar.zst\"");
    let name = HeaderValue::try_from(name).expect("a session's id has no character of its own meaning");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

/// Content of somebody's repository: no browser may guess what it is, or run it.
fn content(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (CACHE_CONTROL, "no-store"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

fn configured(gateway: &Gateway) -> Result<&Sessions, Refusal> {
    gateway.sessions.as_ref().ok_or_else(|| {
        let text =
            "this gateway knows no storage, and so no sessions; its setting STORAGE_URL says where they are";
        Refusal::new(ErrorCode::NotFound, text)
    })
}

fn path_id(id: IdPath) -> Result<SessionId, Refusal> {
    let Path(id) = id.map_err(|_| invalid("the session's id is not UTF-8").with_field("sessionId"))?;
    session_id(&id, "sessionId")
}

fn session_id(text: &str, field: &str) -> Result<SessionId, Refusal> {
    text.parse()
        .map_err(|error: InvalidId| invalid(error.to_string()).with_field(field))
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, text)
}
