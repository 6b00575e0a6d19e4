//! `GET /docs`: Swagger UI, from the program itself. Nothing is loaded from anywhere else, and the page may not try to.

use std::io::{Cursor, Read as _};
use std::sync::OnceLock;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderName, HeaderValue};
use mayfly_telemetry::task;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

use super::unknown_path;

/// The page.
pub(super) const PATH: &str = "/docs";
/// What the page loads lies below.
pub(super) const FOLDER: &str = "/docs/";

/// Scripts, styles and requests of this origin, and pictures that stand in the styles; nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const PAGE: &str = include_str!("docs/index.html");
const STARTER: &str = include_str!("docs/start.js");
/// More bytes are in no file of Swagger UI that is asked for.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The files of Swagger UI that the page loads: two of the hundreds that are packed.
struct Assets {
    script: Bytes,
    style: Bytes,
}

pub(super) async fn page() -> Response {
    shown(Bytes::from_static(PAGE.as_bytes()), "text/html; charset=utf-8")
}

pub(super) async fn file(name: Result<Path<String>, PathRejection>) -> Response {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    match name.as_str() {
        "start.js" => shown(Bytes::from_static(STARTER.as_bytes()), SCRIPT),
        "swagger-ui-bundle.js" => shown(assets().await.script.clone(), SCRIPT),
        "swagger-ui.css" => shown(assets().await.style.clone(), "text/css; charset=utf-8"),
        _ => unknown_path().await,
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

fn shown(bytes: Bytes, kind: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "max-age=3600"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The files, which are unpacked when somebody first asks for one.
async fn assets() -> &'static Assets {
    static ASSETS: OnceLock<Assets> = OnceLock::new();
    match ASSETS.get() {
        Some(assets) => assets,
        None => task::blocking(|| ASSETS.get_or_init(unpack)).await,
    }
}

fn unpack() -> Assets {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("the packed files are a zip");
    let paths: Vec<String> = archive
        .file_names()
        .filter_map(|path| Some(path.ok()?.into_owned()))
        .collect();
    let mut read = |name: &str| {
        let path = paths.iter().find(|path| path.ends_with(name));
        let path = path.expect("Swagger UI has this file");
        let file = archive.by_name(path).expect("it was listed just now");
        let mut bytes = Vec::new();
        file.take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .expect("the packed file is whole");
        Bytes::from(bytes)
    };
    Assets {
        script: read("/dist/swagger-ui-bundle.js"),
        style: read("/dist/swagger-ui.css"),
    }
}
