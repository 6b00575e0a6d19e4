//! Large content goes up in parts, a few at a time. Must not decide about conditions beyond a look before the start.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mayfly_telemetry::task;
use tokio::runtime::Handle;
use tracing::warn;

use super::failure::Failure;
use super::write::{Request, Write, content_md5};
use super::{S3Store, read};
use crate::error::Subject;
use crate::{Body, Key, Precondition, StorageError, Version};

/// S3's limit.
pub(super) const MAX_PARTS: u64 = 10_000;

pub(super) async fn put(store: &S3Store, write: &Write) -> Result<Version, StorageError> {
    if write.precondition == Precondition::IfAbsent
        && read::head(store, &write.subject, &write.key).await?.is_some()
    {
        return Err(write.subject.precondition_failed());
    }
    let upload = Upload::start(store, write).await?;
    let outcome = match upload.send_parts(store, write).await {
        Ok(completion) => store.repeat(write, &completion).await,
        Err(error) => Err(error),
    };
    upload.end(outcome).await
}

/// An upload that has begun; it is aborted when it is dropped before its end.
struct Upload {
    handle: Option<UploadHandle>,
    background: tokio_util::task::TaskTracker,
}

/// Names an upload that has begun, and can abort it.
#[derive(Clone)]
pub(super) struct UploadHandle {
    client: Client,
    bucket: String,
    pub(super) key: String,
    pub(super) id: String,
}

impl Upload {
    async fn start(store: &S3Store, write: &Write) -> Result<Self, StorageError> {
        Ok(Self {
            handle: Some(UploadHandle::begin(store, &write.subject, &write.key).await?),
            background: store.background.clone(),
        })
    }

    fn handle(&self, subject: &Subject) -> Result<&UploadHandle, StorageError> {
        self.handle
            .as_ref()
            .ok_or_else(|| subject.unavailable("the upload has ended"))
    }

    async fn send_parts(&self, store: &S3Store, write: &Write) -> Result<Request, StorageError> {
        let handle = self.handle(&write.subject)?;
        let part_bytes = store.options.part_bytes.max(write.size.div_ceil(MAX_PARTS));
        let parts = Part::all(write.size, part_bytes);
        let parts = stream::iter(parts.map(|part| send_part(handle, store, write, part)))
            .buffered(store.options.part_concurrency.max(1))
            .try_collect()
            .await?;
        Ok(Request::Complete {
            upload: handle.id.clone(),
            parts: CompletedMultipartUpload::builder().set_parts(Some(parts)).build(),
        })
    }

    /// Aborts the upload unless it became an object, and passes the outcome on.
    async fn end(mut self, outcome: Result<Version, StorageError>) -> Result<Version, StorageError> {
        let handle = self.handle.take();
        if let (Err(_), Some(handle)) = (&outcome, handle) {
            handle.abort().await;
        }
        outcome
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(handle), Ok(_runtime)) = (self.handle.take(), Handle::try_current()) {
            task::spawn(&self.background, handle.abort());
        }
    }
}

async fn send_part(
    handle: &UploadHandle,
    store: &S3Store,
    write: &Write,
    part: Part,
) -> Result<CompletedPart, StorageError> {
    let (subject, body) = (write.subject.clone(), write.body.clone());
    let (content, md5) = task::blocking(move || {
        let content = part.read(&subject, &body)?;
        let md5 = content_md5(&content);
        Ok::<_, StorageError>((content, md5))
    })
    .await?;
    handle
        .send_part(store, &write.subject, (part.number, content, md5))
        .await
}

impl UploadHandle {
    pub(super) async fn begin(store: &S3Store, subject: &Subject, key: &Key) -> Result<Self, StorageError> {
        let key = store.full_key(key);
        let request = store
            .client
            .create_multipart_upload()
            .bucket(&store.bucket)
            .key(&key);
        let answer = request
            .send()
            .await
            .map_err(|error| Failure::from(error).into_error(subject))?;
        let id = answer
            .upload_id
            .ok_or_else(|| subject.damaged("the server gave no upload id"))?;
        Ok(Self {
            client: store.client.clone(),
            bucket: store.bucket.clone(),
            key,
            id,
        })
    }

    /// Sends a part; the SDK repeats it, as often and as long as the options say.
    pub(super) async fn send_part(
        &self,
        store: &S3Store,
        subject: &Subject,
        (number, content, md5): (i32, Bytes, String),
    ) -> Result<CompletedPart, StorageError> {
        let request = self.client.upload_part().bucket(&self.bucket).key(&self.key);
        let request = request.upload_id(&self.id).part_number(number);
        let time = aws_sdk_s3::Config::builder().timeout_config(store.time_for(content.len() as u64));
        let request = request.content_md5(md5).body(content.into()).customize();
        let sent = request.config_override(time).send().await;
        let tag = sent.map_err(|error| part_failed(error.into(), subject))?.e_tag;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(tag)
            .build())
    }

    pub(super) async fn abort(self) {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(self.bucket)
            .key(&self.key);
        match request.upload_id(self.id).send().await.map_err(Failure::from) {
            Ok(_) | Err(Failure::Absent) => {}
            Err(failure) => warn!(
                key = self.key,
                ?failure,
                "could not abort an upload; its parts stay until they are swept, or the bucket's lifecycle rule removes them"
            ),
        }
    }
}

/// An upload that is gone while its parts are sent was aborted by someone else.
fn part_failed(failure: Failure, subject: &Subject) -> StorageError {
    match failure {
        Failure::Absent => subject.unavailable("the server has forgotten the upload"),
        failure => failure.into_error(subject),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// Counts from 1.
    number: i32,
    start: u64,
    bytes: u64,
}

impl Part {
    fn all(size: u64, part_bytes: u64) -> impl Iterator<Item = Self> {
        (1..)
            .zip(0..size.div_ceil(part_bytes))
            .map(move |(number, index)| {
                let start = index * part_bytes;
                Self {
                    number,
                    start,
                    bytes: part_bytes.min(size - start),
                }
            })
    }

    fn read(self, subject: &Subject, body: &Body) -> Result<Bytes, StorageError> {
        match body {
            Body::Bytes(bytes) => {
                let start = self.start as usize;
                Ok(bytes.slice(start..start + self.bytes as usize))
            }
            Body::File(path) => self.read_file(path).map_err(|error| body.failed(subject, error)),
        }
    }

    fn read_file(self, path: &PathBuf) -> std::io::Result<Bytes> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.start))?;
        let mut content = vec![0; self.bytes as usize];
        file.read_exact(&mut content)?;
        Ok(content.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_content_once() {
        for (size, part_bytes, expected) in [(1, 5, 1), (5, 5, 1), (6, 5, 2), (10, 5, 2), (11, 5, 3)] {
            let parts: Vec<Part> = Part::all(size, part_bytes).collect();
            assert_eq!(parts.len(), expected);
            let mut at = 0;
            for (number, part) in (1..).zip(parts) {
                assert_eq!((part.number, part.start), (number, at));
                at += part.bytes;
            }
            assert_eq!(at, size);
        }
    }
}
