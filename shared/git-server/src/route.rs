//! Which of git's smart HTTP requests a method, path and query are (gitprotocol-http(5)). Pure.

use axum::http::{Method, Uri};

use crate::config::Permission;
use crate::name::RepositoryName;

/// A request that the server understands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) repository: RepositoryName,
    pub(crate) service: Service,
}

/// What the client is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    UploadPack,
    ReceivePack,
}

impl Service {
    pub(crate) fn needs(self) -> Permission {
        match self {
            Self::UploadPack => Permission::Read,
            Self::ReceivePack => Permission::Write,
        }
    }
}

impl Route {
    /// Reads the request; `None` for whatever is not smart HTTP, the dumb protocol included.
    pub(crate) fn parse(method: &Method, uri: &Uri) -> Option<Self> {
        let path = uri.path().strip_prefix('/')?;
        let (name, service) = if let Some(name) = path.strip_suffix("/info/refs") {
            (name, advertised(method, uri.query())?)
        } else if let Some(name) = path.strip_suffix("/git-upload-pack") {
            (name, posted(method, Service::UploadPack)?)
        } else {
            let name = path.strip_suffix("/git-receive-pack")?;
            (name, posted(method, Service::ReceivePack)?)
        };
        let repository = name.strip_suffix(".git")?.parse().ok()?;
        Some(Self { repository, service })
    }
}

fn advertised(method: &Method, query: Option<&str>) -> Option<Service> {
    if method != Method::GET {
        return None;
    }
    match query? {
        "service=git-upload-pack" => Some(Service::UploadPack),
        "service=git-receive-pack" => Some(Service::ReceivePack),
        _ => None,
    }
}

fn posted(method: &Method, service: Service) -> Option<Service> {
    (method == Method::POST).then_some(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, uri: &str) -> Option<(String, Service)> {
        let route = Route::parse(method, &uri.parse().unwrap())?;
        Some((route.repository.to_string(), route.service))
    }

    #[test]
    fn only_smart_requests_on_safe_names_are_understood() {
        use Service::{ReceivePack, UploadPack};
        let (get, post) = (Method::GET, Method::POST);
        for (method, uri, name, service) in [
            (&get, "/a.git/info/refs?service=git-upload-pack", "a", UploadPack),
            (
                &get,
                "/t/a.git/info/refs?service=git-receive-pack",
                "t/a",
                ReceivePack,
            ),
            (&post, "/a.git/git-upload-pack", "a", UploadPack),
            (&post, "/a.git/git-receive-pack", "a", ReceivePack),
        ] {
            assert_eq!(parse(method, uri), Some((name.to_owned(), service)));
        }
        for (method, uri) in [
            (&get, "/a.git/info/refs"),
            (&get, "/a.git/info/refs?service=git-upload-archive"),
            (&post, "/a.git/info/refs?service=git-upload-pack"),
            (&get, "/a.git/git-upload-pack"),
            (&get, "/a.git/HEAD"),
            (&get, "/a.git/objects/info/packs"),
            (&get, "/a/info/refs?service=git-upload-pack"),
            (&get, "/../a.git/info/refs?service=git-upload-pack"),
            (&get, "/%2e%2e/a.git/info/refs?service=git-upload-pack"),
            (&get, "//a.git/info/refs?service=git-upload-pack"),
            (&post, "/git-upload-pack"),
            (&get, "/"),
        ] {
            assert_eq!(parse(method, uri), None, "{method} {uri}");
        }
    }
}
