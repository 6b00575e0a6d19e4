//! `GET /openapi.json`: the API as OpenAPI 3.1, with schemas that come from the types that requests are read into and answers are written from.
//!
//! What each path takes and gives is listed in [`paths`]. A test holds real answers of every route against the document.

mod operation;
mod paths;

use std::sync::OnceLock;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Where the document is.
pub(super) const PATH: &str = "/openapi.json";

const ABOUT: &str = "A fleet of one-job git workers behind a gateway. A job is posted, and answered by a stream of server-sent events \
                     that ends with exactly one `completed` or `error`. Errors have a `code` out of a closed set, and `retryable`.";

/// The schemas of requests, and those of answers: a field may have to be in the one and not in the other.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = |settings: SchemaSettings| {
            settings.with(|it| {
                it.definitions_path = "/components/schemas".into();
                it.meta_schema = None;
            })
        };
        let draft = SchemaSettings::draft2020_12;
        Self {
            requests: settings(draft().for_deserialize()).into_generator(),
            answers: settings(draft().for_serialize()).into_generator(),
        }
    }

    fn into_components(mut self) -> Map<String, Value> {
        let mut all = self.requests.take_definitions(true);
        all.extend(self.answers.take_definitions(true));
        all
    }
}

pub(super) async fn document() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let bytes = DOCUMENT.get_or_init(|| {
        let text = serde_json::to_vec_pretty(&assemble());
        text.expect("the document has text keys only").into()
    });
    let mut response = Response::new(Body::from(bytes.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn assemble() -> Value {
    let mut schemas = Schemas::new();
    let paths = paths::all(&mut schemas);
    let webhook = paths::job_ended(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Mayfly",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "jobs", "description": "Work in sessions"},
            {"name": "sessions", "description": "What sessions hold"},
            {"name": "operators", "description": "The fleet and its figures"},
        ],
        "paths": paths,
        "webhooks": {"jobEnded": {"post": webhook}},
        "components": {
            "schemas": schemas.into_components(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of this gateway, where it has a file of keys."},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document lists what the router has, and nothing else.
    #[test]
    fn every_route_is_in_the_document() {
        let document = assemble();
        let listed: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let source = include_str!("../routes.rs");
        let mut routes: Vec<String> = source
            .split(".route(\"")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('"')?.0.replace("{*path}", "{path}")))
            .filter(|path| !path.starts_with("/docs"))
            .chain([PATH.to_owned(), super::super::docs::PATH.to_owned()])
            .chain(
                mayfly_protocol::JobKind::ALL
                    .iter()
                    .map(|kind| kind.path().to_owned()),
            )
            .collect();
        routes.sort();
        routes.dedup();
        assert_eq!(listed, routes.iter().collect::<Vec<_>>());
    }
}
