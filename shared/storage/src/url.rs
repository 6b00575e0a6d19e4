//! Where a store is: `file:///absolute/path`, `s3://bucket/prefix` or `memory:`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::Key;

/// Says why a text is no storage URL. The text itself is not repeated, since someone may have put a credential into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("storage URL {0}; expected `file:///absolute/path`, `s3://bucket/prefix` or `memory:`")]
pub struct InvalidStorageUrl(&'static str);

/// The checked address of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageUrl(pub(crate) Place);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    S3 { bucket: String, prefix: Option<Key> },
    Memory,
}

impl StorageUrl {
    /// The address of a folder.
    pub fn directory(path: &Path) -> Result<Self, InvalidStorageUrl> {
        if path.is_absolute() {
            Ok(Self(Place::Directory(path.to_owned())))
        } else {
            Err(InvalidStorageUrl("names a relative folder"))
        }
    }

    /// The folder, where it is one of this machine.
    pub fn folder(&self) -> Option<&Path> {
        match &self.0 {
            Place::Directory(path) => Some(path),
            Place::S3 { .. } | Place::Memory => None,
        }
    }

    /// Whether processes other than this one see what is stored there.
    pub fn is_shared(&self) -> bool {
        !matches!(self.0, Place::Memory)
    }
}

impl FromStr for StorageUrl {
    type Err = InvalidStorageUrl;

    fn from_str(text: &str) -> Result<Self, InvalidStorageUrl> {
        if text == "memory:" {
            return Ok(Self(Place::Memory));
        }
        let url = ::url::Url::parse(text).map_err(|_| InvalidStorageUrl("is not a URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidStorageUrl(
                "carries credentials, which belong into the environment of the AWS SDK",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() || url.port().is_some() {
            return Err(InvalidStorageUrl("has a port, a query or a fragment"));
        }
        match url.scheme() {
            "file" => parse_file(&url),
            "s3" => parse_s3(&url),
            _ => Err(InvalidStorageUrl("has another scheme")),
        }
    }
}

fn parse_file(url: &::url::Url) -> Result<StorageUrl, InvalidStorageUrl> {
    let path = url
        .to_file_path()
        .map_err(|()| InvalidStorageUrl("names a host, or no folder"))?;
    if path == Path::new("/") {
        return Err(InvalidStorageUrl("names the root folder"));
    }
    StorageUrl::directory(&path)
}

fn parse_s3(url: &::url::Url) -> Result<StorageUrl, InvalidStorageUrl> {
    let bucket = url.host_str().unwrap_or_default();
    if !is_bucket_name(bucket) {
        return Err(InvalidStorageUrl("has no valid bucket name"));
    }
    let path = url.path().trim_matches('/');
    let prefix = match path {
        "" => None,
        path => Some(Key::new(path).map_err(|_| InvalidStorageUrl("has a prefix that is no valid key"))?),
    };
    Ok(StorageUrl(Place::S3 {
        bucket: bucket.to_owned(),
        prefix,
    }))
}

/// The naming rules of S3 for general purpose buckets, without the rarer exclusions.
fn is_bucket_name(name: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    (3..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
        && outer(name.as_bytes().first())
        && outer(name.as_bytes().last())
        && !name.contains("..")
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Directory(path) => match ::url::Url::from_file_path(path) {
                Ok(url) => url.fmt(f),
                Err(()) => write!(f, "file://{}", path.display()),
            },
            Place::S3 { bucket, prefix: None } => write!(f, "s3://{bucket}"),
            Place::S3 {
                bucket,
                prefix: Some(prefix),
            } => write!(f, "s3://{bucket}/{prefix}"),
            Place::Memory => f.write_str("memory:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_come_back_as_they_were() {
        for text in [
            "memory:",
            "file:///var/lib/mayfly",
            "file:///a%20b",
            "s3://bucket",
            "s3://my-bucket.x/a/b",
        ] {
            assert_eq!(
                text.parse::<StorageUrl>().map(|url| url.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert_eq!("s3://bucket/".parse::<StorageUrl>(), "s3://bucket".parse());
        assert!(!"memory:".parse::<StorageUrl>().unwrap().is_shared());
    }

    #[test]
    fn bad_addresses_are_refused_and_not_repeated() {
        for bad in [
            "",
            "/var/lib",
            "file://",
            "file:///",
            "file://host/a",
            "memory",
            "memory:x",
            "http://bucket/a",
            "s3://",
            "s3://A_B",
            "s3://ab",
            "s3://bucket:80/a",
            "s3://bucket/a?b",
            "s3://bucket/a#b",
            "s3://bucket/a//b",
            "s3://bucket/.mayfly-tmp",
            "s3://-bucket",
            "s3://key:canary@bucket/a",
            "s3://bucket/a%2F..",
        ] {
            let error = bad.parse::<StorageUrl>().unwrap_err();
            assert!(!error.to_string().contains("canary"), "{bad:?}");
        }
    }
}
