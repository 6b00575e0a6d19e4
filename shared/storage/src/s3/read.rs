//! Reads: whole, by range, into a file, and "is it what we wrote?". They are repeated by this module and not by the SDK, which would give each of
//! its own attempts again to each of ours. A body that breaks off is read again, a download goes on where it was.

use std::ops::Range;
use std::path::Path;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use mayfly_telemetry::task;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::timeout;

use super::S3Store;
use super::attempts::Attempts;
use super::failure::Failure;
use crate::digest::{ContentHash, Hasher};
use crate::download::PartialFile;
use crate::error::Subject;
use crate::{Key, Object, Operation, StorageError, Version};

const WRITE_BUFFER_BYTES: usize = 512 * 1024;

/// Why a read ended: by the server or the network, which may be tried again, or for good.
enum Broken {
    Server(Failure),
    Final(StorageError),
}

impl From<StorageError> for Broken {
    fn from(error: StorageError) -> Self {
        Self::Final(error)
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Server(failure)
    }
}

impl Broken {
    /// The failure that may be tried again; all others end the read.
    fn or_end(self, subject: &Subject) -> Result<Failure, StorageError> {
        match self {
            Self::Server(failure @ Failure::Transient(_)) => Ok(failure),
            Self::Server(failure) => Err(failure.into_error(subject)),
            Self::Final(error) => Err(error),
        }
    }
}

pub(super) async fn get(store: &S3Store, key: &Key, max_bytes: u64) -> Result<Object, StorageError> {
    let subject = Subject::new(Operation::Get, key);
    let mut last = None;
    let mut attempts = store.options.attempts(0);
    while attempts.next().await {
        match try_get(store, &subject, (key, max_bytes), &mut attempts).await {
            Ok(object) => return Ok(object),
            Err(broken) => last = Some(broken.or_end(&subject)?),
        }
    }
    Err(given_up(&subject, last))
}

async fn try_get(
    store: &S3Store,
    subject: &Subject,
    (key, max_bytes): (&Key, u64),
    attempts: &mut Attempts<'_>,
) -> Result<Object, Broken> {
    let answer = attempts.answer(open(store, key, None)).await?;
    let size = announced_size(subject, &answer)?;
    if size > max_bytes {
        return Err(subject.too_large(max_bytes).into());
    }
    attempts.moves(size);
    let version = version(subject, answer.e_tag())?;
    let bytes = collect(store, answer.body, size).await?;
    Ok(Object { bytes, version })
}

pub(super) async fn get_range(store: &S3Store, key: &Key, range: Range<u64>) -> Result<Bytes, StorageError> {
    let subject = Subject::new(Operation::GetRange, key);
    if range.is_empty() {
        let found = head(store, &subject, key).await?;
        return found.map(|_| Bytes::new()).ok_or_else(|| subject.not_found());
    }
    let mut last = None;
    let mut attempts = store.options.attempts(range.end - range.start);
    while attempts.next().await {
        match try_get_range(store, &subject, (key, &range), &attempts).await {
            Ok(bytes) => return Ok(bytes),
            Err(Broken::Server(Failure::OutOfRange)) => return Ok(Bytes::new()),
            Err(broken) => last = Some(broken.or_end(&subject)?),
        }
    }
    Err(given_up(&subject, last))
}

async fn try_get_range(
    store: &S3Store,
    subject: &Subject,
    (key, range): (&Key, &Range<u64>),
    attempts: &Attempts<'_>,
) -> Result<Bytes, Broken> {
    let header = format!("bytes={}-{}", range.start, range.end - 1);
    let answer = attempts.answer(open(store, key, Some(header))).await?;
    let size = announced_size(subject, &answer)?;
    if size > range.end - range.start || (range.start > 0 && answer.content_range().is_none()) {
        return Err(subject.damaged("the server does not keep to ranges").into());
    }
    Ok(collect(store, answer.body, size).await?)
}

pub(super) async fn head(
    store: &S3Store,
    subject: &Subject,
    key: &Key,
) -> Result<Option<(u64, Version)>, StorageError> {
    let request = store
        .client
        .head_object()
        .bucket(&store.bucket)
        .key(store.full_key(key));
    match request.send().await.map_err(Failure::from) {
        Ok(answer) => {
            let size = size_of(subject, answer.content_length())?;
            Ok(Some((size, version(subject, answer.e_tag())?)))
        }
        Err(Failure::Absent) => Ok(None),
        Err(failure) => Err(failure.into_error(subject)),
    }
}

/// How far a download has come; it goes on there after a break.
struct Transfer {
    file: BufWriter<File>,
    /// Bytes in the file.
    done: u64,
    /// The state that those bytes are of.
    version: Option<Version>,
}

pub(super) async fn download(
    store: &S3Store,
    key: &Key,
    to: &Path,
    max_bytes: u64,
) -> Result<u64, StorageError> {
    let subject = Subject::new(Operation::Download, key);
    let (partial, handle) = {
        let (subject, to) = (subject.clone(), to.to_owned());
        task::blocking(move || {
            let partial = PartialFile::create(&subject, &to)?;
            let handle = partial.handle(&subject)?;
            Ok::<_, StorageError>((partial, handle))
        })
        .await?
    };
    let mut transfer = Transfer {
        file: BufWriter::with_capacity(WRITE_BUFFER_BYTES, File::from_std(handle)),
        done: 0,
        version: None,
    };
    fetch_all(store, &subject, key, max_bytes, &partial, &mut transfer).await?;
    let flushed = transfer.file.flush().await;
    flushed.map_err(|error| partial.failed(&subject, error))?;
    task::blocking(move || partial.commit(&subject)).await?;
    Ok(transfer.done)
}

async fn fetch_all(
    store: &S3Store,
    subject: &Subject,
    key: &Key,
    max_bytes: u64,
    partial: &PartialFile,
    transfer: &mut Transfer,
) -> Result<(), StorageError> {
    let mut last = None;
    let mut attempts = store.options.attempts(0);
    while attempts.next().await {
        let limits = (max_bytes, &mut attempts);
        match fetch_rest(store, subject, key, limits, (partial, transfer)).await {
            Ok(()) => return Ok(()),
            Err(broken) => last = Some(broken.or_end(subject)?),
        }
    }
    Err(given_up(subject, last))
}

async fn fetch_rest(
    store: &S3Store,
    subject: &Subject,
    key: &Key,
    (max_bytes, attempts): (u64, &mut Attempts<'_>),
    (partial, transfer): (&PartialFile, &mut Transfer),
) -> Result<(), Broken> {
    let range = (transfer.done > 0).then(|| format!("bytes={}-", transfer.done));
    let answer = match attempts.answer(open(store, key, range)).await {
        // The break came after the last byte.
        Err(Failure::OutOfRange) if transfer.done > 0 => return Ok(()),
        answer => answer?,
    };
    let rest = announced_size(subject, &answer)?;
    if transfer.done.saturating_add(rest) > max_bytes {
        return Err(subject.too_large(max_bytes).into());
    }
    let version = version(subject, answer.e_tag())?;
    if transfer.version.as_ref().is_some_and(|first| *first != version)
        || (transfer.done > 0 && answer.content_range().is_none())
    {
        return Err(subject.damaged("the object changed while it was read").into());
    }
    transfer.version = Some(version);
    attempts.moves(rest);
    let moved = timeout(
        store.options.attempt_timeout(rest),
        copy(subject, answer.body, rest, partial, transfer),
    );
    moved
        .await
        .unwrap_or_else(|_| Err(Failure::transient("the transfer is too slow").into()))
}

async fn copy(
    subject: &Subject,
    mut body: ByteStream,
    mut rest: u64,
    partial: &PartialFile,
    transfer: &mut Transfer,
) -> Result<(), Broken> {
    while let Some(chunk) = body.try_next().await.map_err(|error| broken_body(&error))? {
        rest = take(rest, &chunk)?;
        let written = transfer.file.write_all(&chunk).await;
        written.map_err(|error| partial.failed(subject, error))?;
        transfer.done += chunk.len() as u64;
    }
    Ok(at_end(rest)?)
}

/// The version of the object if it holds exactly this content.
pub(super) async fn find_content(
    store: &S3Store,
    subject: &Subject,
    key: &Key,
    size: u64,
    expected: ContentHash,
) -> Result<Option<Version>, StorageError> {
    let mut last = None;
    let mut attempts = store.options.attempts_to_settle(size);
    while attempts.next().await {
        match try_find_content(store, subject, key, (size, expected), &attempts).await {
            Ok(found) => return Ok(found),
            Err(Broken::Server(Failure::Absent)) => return Ok(None),
            Err(broken) => last = Some(broken.or_end(subject)?),
        }
    }
    Err(given_up(subject, last))
}

async fn try_find_content(
    store: &S3Store,
    subject: &Subject,
    key: &Key,
    (size, expected): (u64, ContentHash),
    attempts: &Attempts<'_>,
) -> Result<Option<Version>, Broken> {
    let answer = attempts.answer(open(store, key, None)).await?;
    if announced_size(subject, &answer)? != size {
        return Ok(None);
    }
    let version = version(subject, answer.e_tag())?;
    let hashed = timeout(store.options.attempt_timeout(size), hash(answer.body, size));
    let found = hashed
        .await
        .map_err(|_| Failure::transient("the transfer is too slow"))??;
    Ok((found == expected).then_some(version))
}

async fn hash(mut body: ByteStream, mut rest: u64) -> Result<ContentHash, Failure> {
    let mut hasher = Hasher::default();
    while let Some(chunk) = body.try_next().await.map_err(|error| broken_body(&error))? {
        rest = take(rest, &chunk)?;
        hasher.update(&chunk);
    }
    at_end(rest)?;
    Ok(hasher.finish())
}

async fn open(store: &S3Store, key: &Key, range: Option<String>) -> Result<GetObjectOutput, Failure> {
    let request = store
        .client
        .get_object()
        .bucket(&store.bucket)
        .key(store.full_key(key))
        .set_range(range);
    Ok(request.customize().config_override(store.once(0)).send().await?)
}

async fn collect(store: &S3Store, body: ByteStream, size: u64) -> Result<Bytes, Failure> {
    let collected = timeout(store.options.attempt_timeout(size), collect_all(body, size));
    collected
        .await
        .unwrap_or_else(|_| Err(Failure::transient("the transfer is too slow")))
}

async fn collect_all(mut body: ByteStream, size: u64) -> Result<Bytes, Failure> {
    let mut rest = size;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.try_next().await.map_err(|error| broken_body(&error))? {
        rest = take(rest, &chunk)?;
        bytes.extend_from_slice(&chunk);
    }
    at_end(rest)?;
    Ok(bytes.freeze())
}

fn take(rest: u64, chunk: &Bytes) -> Result<u64, Failure> {
    let too_many = || Failure::transient("more bytes came than the server announced");
    rest.checked_sub(chunk.len() as u64).ok_or_else(too_many)
}

fn at_end(rest: u64) -> Result<(), Failure> {
    match rest {
        0 => Ok(()),
        rest => Err(Failure::transient(&format!(
            "the answer ended {rest} bytes too early"
        ))),
    }
}

fn broken_body(error: &aws_sdk_s3::primitives::ByteStreamError) -> Failure {
    Failure::transient(&format!("the answer broke off: {error}"))
}

fn announced_size(subject: &Subject, answer: &GetObjectOutput) -> Result<u64, StorageError> {
    size_of(subject, answer.content_length())
}

fn size_of(subject: &Subject, length: Option<i64>) -> Result<u64, StorageError> {
    let size = length.and_then(|length| u64::try_from(length).ok());
    size.ok_or_else(|| subject.damaged("the server gave no size"))
}

pub(super) fn version(subject: &Subject, tag: Option<&str>) -> Result<Version, StorageError> {
    let tag = tag.filter(|tag| !tag.is_empty());
    tag.map(Version::new)
        .ok_or_else(|| subject.damaged("the server gave no ETag"))
}

pub(super) fn given_up(subject: &Subject, last: Option<Failure>) -> StorageError {
    last.map_or_else(
        || subject.unavailable("no attempt was made"),
        |failure| failure.into_error(subject),
    )
}
