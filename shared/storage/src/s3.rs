//! A store in a bucket of S3, or of a server that speaks its protocol and keeps conditional writes (see [`crate::probe`]).
//!
//! # Conditions
//!
//! Only `PUT` is made conditional where it counts: `If-None-Match: *` and `If-Match`. The answers 404, 409 and 412 all mean that the condition
//! failed; a 409 (two writes at once) is tried again first. Nothing leans on conditional removal, nor on a condition at the end of an upload
//! in parts, which some servers ignore: a create-only write that is large enough for parts looks for the object first, and sends the condition
//! at the end for the servers that honour it. So two racing create-only writes of *large* content may both be told that they won; large
//! objects are content-addressed, and then both wrote the same bytes.
//!
//! # Lost answers
//!
//! The SDK does not repeat writes here, this module does, so that it knows when the answer of an earlier attempt was lost. If a later attempt
//! then finds the condition broken, the object is read and compared (size, then SHA-256) with what was to be written.
//! See [`crate::ObjectStore::put`] for what that asks of callers.
//!
//! # Silence
//!
//! However many attempts an operation has, it waits for answers no longer than two of them may take (`attempts`); to find out what became of a
//! write whose answer was lost takes one more at most. What the SDK repeats (listings, removals, parts) is bound in the same way by its own
//! timeout of operations; what it reads, it does not repeat, since this module does.
//!
//! # ETags
//!
//! A version is the ETag as the server gave it. Ceph's gateway takes it in `If-Match` only without its quotes. The form is learnt when it first
//! matters, at no cost for other servers: where a quoted tag is refused although a look at the object shows the same tag, both forms
//! are tried on a scratch object, and the one that takes the current tag *and* refuses a stale one is used from then on.
//!
//! # Integrity
//!
//! Each body goes with `Content-MD5`, which AWS, Ceph, MinIO, R2 and the others check, and small ones under a signature of their SHA-256
//! as well. Newer checksum headers are sent only where the operation demands one, since not all servers know them.
//!
//! # Leftovers
//!
//! An upload in parts is aborted when it fails or is dropped. A process that is killed leaves its parts behind, which
//! [`ObjectStore::unfinished`] finds. A lifecycle rule of the bucket that aborts incomplete uploads after a day does the same.

mod attempts;
mod connect;
mod etag;
mod failure;
mod multipart;
mod read;
mod stream;
mod unfinished;
mod write;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::Object as ListedObject;
use bytes::Bytes;
use tokio_util::task::TaskTracker;

use crate::error::Subject;
use crate::folder;
use crate::{
    Body, FolderPage, Key, Object, ObjectMeta, ObjectStore, OpenError, Operation, Precondition, StorageError,
    StorageOptions, Unfinished, Upload, Version,
};
use etag::EtagForms;
use failure::Failure;
use stream::StreamedUpload;

/// What S3 lists at once.
const MAX_LISTED: i32 = 1000;

/// A store in a bucket.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    /// The endpoint, or the region of AWS.
    server: String,
    bucket: String,
    /// Empty, or ends with `/`.
    prefix: String,
    options: StorageOptions,
    etag_forms: EtagForms,
    /// Streamed uploads, and aborts of uploads that were dropped.
    background: TaskTracker,
}

impl S3Store {
    /// Makes a client for the bucket, below `prefix`. Nothing is sent yet: what is wrong with the server, the bucket or the key shows at
    /// the first operation.
    pub async fn open(
        bucket: &str,
        prefix: Option<&Key>,
        options: &StorageOptions,
    ) -> Result<Self, OpenError> {
        let (client, server) = connect::client(options).await?;
        Ok(Self {
            client,
            server,
            bucket: bucket.to_owned(),
            prefix: prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default(),
            options: options.clone(),
            etag_forms: EtagForms::new(options.s3.etag_form),
            background: TaskTracker::new(),
        })
    }

    /// Names server, bucket and prefix, so that a copy of the bucket elsewhere is told from it.
    pub(crate) fn place(&self) -> String {
        format!("{} {} {}", self.server, self.bucket, self.prefix)
    }

    fn full_key(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn listed(&self, subject: &Subject, page: &ListObjectsV2Output) -> Result<Vec<ObjectMeta>, StorageError> {
        let objects = page.contents();
        let ours = objects
            .iter()
            .filter_map(|object| self.own_key(object).map(|key| (key, object)));
        ours.map(|(key, object)| object_meta(subject, key, object))
            .collect()
    }

    /// What one answer holds of a level. A server may tell the folder that the page begins behind once more.
    fn level(
        &self,
        subject: &Subject,
        answer: &ListObjectsV2Output,
        after: Option<&str>,
    ) -> Result<FolderPage, StorageError> {
        let folders = answer.common_prefixes().iter().filter_map(|it| it.prefix());
        let folders = folders
            .filter_map(|it| it.strip_prefix(&self.prefix))
            .filter(|it| is_folder(it));
        let mut page = FolderPage {
            objects: self.listed(subject, answer)?,
            folders: folders.map(ToOwned::to_owned).collect(),
            next: None,
        };
        page.folders
            .retain(|it| after.is_none_or(|after| it.as_str() > after));
        page.objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        page.folders.sort_unstable();
        if answer.is_truncated() == Some(true) {
            let object = answer.contents().iter().filter_map(ListedObject::key).max();
            let folder = answer.common_prefixes().iter().filter_map(|it| it.prefix()).max();
            let last = object.max(folder).and_then(|it| it.strip_prefix(&self.prefix));
            page.next = last.map(ToOwned::to_owned);
        }
        Ok(page)
    }

    fn own_key(&self, object: &ListedObject) -> Option<Key> {
        Key::new(object.key()?.strip_prefix(&self.prefix)?).ok()
    }
}

impl std::fmt::Debug for S3Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Store")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Whether a text is the folder of a key.
fn is_folder(text: &str) -> bool {
    text.strip_suffix('/').is_some_and(|text| Key::new(text).is_ok())
}

fn object_meta(subject: &Subject, key: Key, object: &ListedObject) -> Result<ObjectMeta, StorageError> {
    let bytes = object.size().and_then(|size| u64::try_from(size).ok());
    let modified = object.last_modified().and_then(|time| (*time).try_into().ok());
    match (bytes, modified) {
        (Some(bytes), Some(modified)) => Ok(ObjectMeta { key, bytes, modified }),
        _ => Err(subject.damaged(format!("`{key}` is listed without size or time"))),
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
        read::get(self, key, max_bytes).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
        read::get_range(self, key, range).await
    }

    async fn download(&self, key: &Key, to: &Path, max_bytes: u64) -> Result<u64, StorageError> {
        read::download(self, key, to, max_bytes).await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        read::head(self, &Subject::new(Operation::Head, key), key)
            .await
            .map(|found| found.map(|(size, _)| size))
    }

    async fn put(&self, key: &Key, body: Body, precondition: Precondition) -> Result<Version, StorageError> {
        Box::pin(write::put(self, key, body, precondition)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        let request = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.full_key(key));
        match request.send().await.map_err(Failure::from) {
            Ok(_) | Err(Failure::Absent) => Ok(()),
            Err(failure) => Err(failure.into_error(&Subject::new(Operation::Delete, key))),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let subject = Subject::of_prefix(Operation::List, prefix);
        let request = self.client.list_objects_v2().bucket(&self.bucket);
        let mut pages = request
            .prefix(format!("{}{prefix}", self.prefix))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Failure::from(error).into_error(&subject))?;
            found.extend(self.listed(&subject, &page)?);
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn list_folder(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<FolderPage, StorageError> {
        let subject = Subject::of_prefix(Operation::ListFolder, prefix);
        let request = self.client.list_objects_v2().bucket(&self.bucket).delimiter("/");
        let request = request
            .prefix(format!("{}{prefix}", self.prefix))
            .set_start_after(after.map(|after| format!("{}{}", self.prefix, folder::behind(after))))
            .max_keys(i32::try_from(limit.get()).unwrap_or(i32::MAX).min(MAX_LISTED));
        let answer = request.send().await;
        let answer = answer.map_err(|error| Failure::from(error).into_error(&subject))?;
        self.level(&subject, &answer, after)
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(StreamedUpload::begin(self, key)))
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StorageError> {
        unfinished::list(self).await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<(), StorageError> {
        unfinished::discard(self, unfinished).await
    }

    async fn settle(&self) {
        self.background.close();
        self.background.wait().await;
    }
}
