//! Writes of unknown length. What fits in one part goes up whole at the end; more goes up in parts while it comes.
//!
//! A task of its own sends the parts. The upload holds the other end of its channel: when that is dropped before the last part was handed over,
//! the task aborts what it began. Parts in memory (one that fills up, and those on their way) are counted by permits.
//! The key is fresh, so that nothing here leans on conditions.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mayfly_telemetry::task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::failure::Failure;
use super::multipart::{MAX_PARTS, UploadHandle};
use super::write::{Request, content_md5};
use super::{S3Store, read, write};
use crate::error::Subject;
use crate::{Body, Key, Operation, Precondition, StorageError, Upload};

/// Content that is on its way to the task.
struct Piece {
    content: Bytes,
    is_last: bool,
    /// Held while the content is in memory.
    _permit: OwnedSemaphorePermit,
}

/// A streamed write that has begun.
#[derive(Debug)]
pub(super) struct StreamedUpload {
    subject: Subject,
    part_bytes: usize,
    room: Arc<Semaphore>,
    /// The part that fills up, and its room.
    filling: Option<(BytesMut, OwnedSemaphorePermit)>,
    pieces: mpsc::Sender<Piece>,
    /// Gives the size when all is done; `None` once that was asked.
    sender: Option<JoinHandle<Result<u64, StorageError>>>,
}

impl StreamedUpload {
    pub(super) fn begin(store: &S3Store, key: &Key) -> Self {
        let concurrency = store.options.part_concurrency.max(1);
        let (pieces, inbox) = mpsc::channel(concurrency);
        let task = Sender {
            store: store.clone(),
            key: key.clone(),
            subject: Subject::new(Operation::Upload, key),
        };
        Self {
            subject: Subject::new(Operation::UploadWrite, key),
            part_bytes: usize::try_from(store.options.part_bytes)
                .unwrap_or(usize::MAX)
                .max(1),
            room: Arc::new(Semaphore::new(concurrency)),
            filling: None,
            pieces,
            sender: Some(task::spawn(&store.background, task.run(inbox))),
        }
    }

    /// The part that fills up; waits for room to begin one.
    async fn filling(&mut self) -> Result<&mut BytesMut, StorageError> {
        if self.filling.is_none() {
            let permit = Arc::clone(&self.room).acquire_owned().await;
            let permit = permit.map_err(|closed| self.subject.unavailable(closed))?;
            self.filling = Some((BytesMut::with_capacity(self.part_bytes), permit));
        }
        let gone = || self.subject.unavailable("there is no room for its bytes");
        self.filling.as_mut().map(|(buffer, _)| buffer).ok_or_else(gone)
    }

    async fn send(&mut self, is_last: bool) -> Result<(), StorageError> {
        let Some((buffer, permit)) = self.filling.take() else {
            return Ok(());
        };
        let piece = Piece {
            content: buffer.freeze(),
            is_last,
            _permit: permit,
        };
        match self.pieces.send(piece).await {
            Ok(()) => Ok(()),
            Err(_closed) => Err(self.outcome().await.err().unwrap_or_else(|| self.failed_before())),
        }
    }

    /// Waits for the task to end.
    async fn outcome(&mut self) -> Result<u64, StorageError> {
        match self.sender.take() {
            Some(sender) => sender
                .await
                .unwrap_or_else(|error| Err(self.subject.unavailable(error))),
            None => Err(self.failed_before()),
        }
    }

    fn failed_before(&self) -> StorageError {
        self.subject.unavailable("an earlier part of it failed")
    }
}

#[async_trait]
impl Upload for StreamedUpload {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let part_bytes = self.part_bytes;
            let buffer = self.filling().await?;
            let taken = bytes.split_to(bytes.len().min(part_bytes - buffer.len()));
            buffer.extend_from_slice(&taken);
            if buffer.len() == part_bytes {
                self.send(false).await?;
            }
        }
        Ok(())
    }

    async fn complete(mut self: Box<Self>) -> Result<u64, StorageError> {
        self.filling().await?;
        self.send(true).await?;
        self.outcome().await
    }

    async fn abort(self: Box<Self>) {
        let Self { pieces, sender, .. } = *self;
        drop(pieces);
        if let Some(sender) = sender {
            // Its failure, if any, has been told or is the abortion itself.
            let _outcome = sender.await;
        }
    }
}

/// The task that sends what comes.
struct Sender {
    store: S3Store,
    key: Key,
    subject: Subject,
}

impl Sender {
    async fn run(self, mut inbox: mpsc::Receiver<Piece>) -> Result<u64, StorageError> {
        let Some(first) = inbox.recv().await else {
            return Err(self.dropped());
        };
        if first.is_last {
            return self.put(first.content).await;
        }
        let upload = UploadHandle::begin(&self.store, &self.subject, &self.key).await?;
        let outcome = match self.send_parts(&upload, first, inbox).await {
            Ok((parts, size)) => self.complete(&upload, parts, size).await.map(|()| size),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            upload.abort().await;
        }
        outcome
    }

    async fn put(&self, content: Bytes) -> Result<u64, StorageError> {
        let size = content.len() as u64;
        let put = write::put(&self.store, &self.key, Body::Bytes(content), Precondition::None);
        Box::pin(put).await.map(|_| size)
    }

    /// Sends parts as they come; what is on its way when something fails is given up.
    async fn send_parts(
        &self,
        upload: &UploadHandle,
        first: Piece,
        mut inbox: mpsc::Receiver<Piece>,
    ) -> Result<(Vec<CompletedPart>, u64), StorageError> {
        let (mut size, mut number, mut is_last) = (0, 0, false);
        let mut on_their_way = FuturesUnordered::new();
        let mut done = Vec::new();
        let mut next = Some(first);
        loop {
            if let Some(piece) = next.take() {
                is_last = piece.is_last;
                size += piece.content.len() as u64;
                number += 1;
                self.check_number(number)?;
                if !piece.content.is_empty() {
                    on_their_way.push(self.send_part(upload, number, piece));
                }
            }
            tokio::select! {
                biased;
                Some(sent) = on_their_way.next() => done.push(sent?),
                piece = inbox.recv(), if !is_last => next = Some(piece.ok_or_else(|| self.dropped())?),
                else => break,
            }
        }
        done.sort_unstable_by_key(CompletedPart::part_number);
        Ok((done, size))
    }

    fn check_number(&self, number: i32) -> Result<(), StorageError> {
        let most = self.store.options.part_bytes.saturating_mul(MAX_PARTS);
        match u64::try_from(number) {
            Ok(number) if number <= MAX_PARTS => Ok(()),
            _ => Err(self.subject.too_large(most)),
        }
    }

    async fn send_part(
        &self,
        upload: &UploadHandle,
        number: i32,
        piece: Piece,
    ) -> Result<CompletedPart, StorageError> {
        let content = piece.content.clone();
        let md5 = task::blocking(move || content_md5(&content)).await;
        let part = (number, piece.content.clone(), md5);
        upload.send_part(&self.store, &self.subject, part).await
    }

    /// Makes the object of the parts. Where answers were lost, the object that is there is ours: nobody else knows its key.
    async fn complete(
        &self,
        upload: &UploadHandle,
        parts: Vec<CompletedPart>,
        size: u64,
    ) -> Result<(), StorageError> {
        let request = Request::Complete {
            upload: upload.id.clone(),
            parts: CompletedMultipartUpload::builder().set_parts(Some(parts)).build(),
        };
        let mut last = Failure::transient("no attempt was made");
        let mut attempts = self.store.options.attempts(0);
        while attempts.next().await {
            let sent = self.store.send(&upload.key, &request, &Precondition::None, None);
            match attempts.answer(sent).await {
                Ok(_) => return Ok(()),
                Err(failure @ (Failure::Transient(_) | Failure::Conflict(_))) => last = failure,
                Err(failure) => {
                    last = failure;
                    break;
                }
            }
        }
        match (read::head(&self.store, &self.subject, &self.key).await, last) {
            (Ok(Some((found, _))), _) if found == size => Ok(()),
            (_, Failure::Absent) => Err(self.subject.unavailable("the server has forgotten the upload")),
            (_, Failure::Conflict(cause)) => Err(self.subject.unavailable(cause)),
            (_, failure) => Err(failure.into_error(&self.subject)),
        }
    }

    fn dropped(&self) -> StorageError {
        self.subject.unavailable("the upload was given up")
    }
}
