//! Writes: sent again by this module, never by the SDK, so that a lost answer is known as such. See the head of [`super`].

use aws_sdk_s3::config::Builder as ConfigBuilder;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::CompletedMultipartUpload;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mayfly_telemetry::task;
use md5::{Digest, Md5};

use super::failure::{Cause, Failure};
use super::{S3Store, multipart, read};
use crate::digest::ContentHash;
use crate::error::Subject;
use crate::store::check_replacement;
use crate::{Body, EtagForm, Key, Operation, Precondition, StorageError, Version};

/// A request that makes an object appear.
pub(super) enum Request {
    /// `PutObject`
    Whole { content: Bytes, md5: String },
    /// `CompleteMultipartUpload`
    Complete {
        upload: String,
        parts: CompletedMultipartUpload,
    },
}

/// One write of the port.
pub(super) struct Write {
    pub(super) subject: Subject,
    pub(super) key: Key,
    pub(super) body: Body,
    pub(super) size: u64,
    pub(super) precondition: Precondition,
}

impl Request {
    pub(super) fn whole(content: Bytes) -> Self {
        Self::Whole {
            md5: content_md5(&content),
            content,
        }
    }

    pub(super) fn small(content: &'static str) -> Self {
        Self::whole(Bytes::from_static(content.as_bytes()))
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Whole { content, .. } => content.len() as u64,
            Self::Complete { .. } => 0,
        }
    }
}

/// The value of `Content-MD5` (RFC 1864).
pub(super) fn content_md5(content: &[u8]) -> String {
    STANDARD.encode(Md5::digest(content))
}

pub(super) async fn put(
    store: &S3Store,
    key: &Key,
    body: Body,
    precondition: Precondition,
) -> Result<Version, StorageError> {
    let subject = Subject::new(Operation::Put, key);
    let size = {
        let (subject, body) = (subject.clone(), body.clone());
        task::blocking(move || body.size_for(&subject)).await?
    };
    check_replacement(&subject, size, &precondition)?;
    let in_parts =
        size > store.options.multipart_threshold && !matches!(precondition, Precondition::IfMatch(_));
    let write = Write {
        subject,
        key: key.clone(),
        body,
        size,
        precondition,
    };
    if in_parts {
        multipart::put(store, &write).await
    } else {
        put_whole(store, write).await
    }
}

async fn put_whole(store: &S3Store, mut write: Write) -> Result<Version, StorageError> {
    let (subject, body) = (write.subject.clone(), write.body.clone());
    let (content, request) = task::blocking(move || {
        let content = body.read().map_err(|error| body.failed(&subject, error))?;
        Ok::<_, StorageError>((content.clone(), Request::whole(content)))
    })
    .await?;
    write.size = content.len() as u64;
    write.body = Body::Bytes(content);
    store.repeat(&write, &request).await
}

/// What to do after an attempt that failed.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Try again; with `doubt` the attempt may have been done.
    Again { doubt: bool },
    /// The condition does not hold, or the upload is gone: by another's doing, or by our own earlier attempt.
    Settle,
    /// To try again is of no use.
    GiveUp,
}

fn step_after(failure: &Failure, request: &Request, precondition: &Precondition) -> Step {
    let absence_is_an_answer =
        matches!(precondition, Precondition::IfMatch(_)) || matches!(request, Request::Complete { .. });
    match failure {
        Failure::Transient(_) => Step::Again { doubt: true },
        Failure::Conflict(_) => Step::Again { doubt: false },
        Failure::ConditionFailed => Step::Settle,
        Failure::Absent if absence_is_an_answer => Step::Settle,
        Failure::Absent | Failure::OutOfRange | Failure::Denied(_) => Step::GiveUp,
    }
}

impl S3Store {
    /// Sends a request until its outcome is known, or the attempts are used up.
    pub(super) async fn repeat(&self, write: &Write, request: &Request) -> Result<Version, StorageError> {
        let key = self.full_key(&write.key);
        let mut doubt = false;
        let mut last = None;
        let mut attempts = self.options.attempts(request.bytes());
        while attempts.next().await {
            let sent = self.send(&key, request, &write.precondition, None);
            let failure = match attempts.answer(sent).await {
                Ok(version) => return Ok(self.proved(version, &write.precondition)),
                Err(failure) => failure,
            };
            match step_after(&failure, request, &write.precondition) {
                Step::Again { doubt: more } => doubt |= more,
                Step::Settle if self.worth_another_form(write).await? => {}
                Step::Settle => return self.settle(write, doubt, failure).await,
                Step::GiveUp => return Err(refused(failure, write)),
            }
            last = Some(failure);
        }
        let failure = last.unwrap_or_else(|| Failure::transient("no attempt was made"));
        self.settle(write, doubt, failure).await
    }

    /// The end of a write that was refused, or never answered: it is done after all if the object holds its bytes.
    async fn settle(&self, write: &Write, doubt: bool, failure: Failure) -> Result<Version, StorageError> {
        if doubt {
            let (subject, body) = (write.subject.clone(), write.body.clone());
            let expected = task::blocking(move || {
                let content = body.reader().and_then(ContentHash::of_reader);
                content.map_err(|error| body.failed(&subject, error))
            })
            .await?;
            let found = read::find_content(self, &write.subject, &write.key, write.size, expected).await;
            match (found, &failure) {
                (Ok(Some(version)), _) => return Ok(version),
                (Err(error), Failure::ConditionFailed | Failure::Absent) => return Err(error),
                _ => {}
            }
        }
        Err(refused(failure, write))
    }

    async fn worth_another_form(&self, write: &Write) -> Result<bool, StorageError> {
        match &write.precondition {
            Precondition::IfMatch(version) => self.learn_etag_form(&write.subject, &write.key, version).await,
            _ => Ok(false),
        }
    }

    fn proved(&self, version: Version, precondition: &Precondition) -> Version {
        if matches!(precondition, Precondition::IfMatch(_)) {
            self.etag_forms.note(EtagForm::AsGiven);
        }
        version
    }

    /// Sends a request once.
    pub(super) async fn send(
        &self,
        key: &str,
        request: &Request,
        precondition: &Precondition,
        form: Option<EtagForm>,
    ) -> Result<Version, Failure> {
        let (if_none_match, if_match) = match precondition {
            Precondition::None => (None, None),
            Precondition::IfAbsent => (Some("*".to_owned()), None),
            Precondition::IfMatch(version) => (None, Some(self.if_match(version, form))),
        };
        let tag = match request {
            Request::Whole { content, md5 } => {
                let put = self.client.put_object().bucket(&self.bucket).key(key);
                let put = put.set_if_none_match(if_none_match).set_if_match(if_match);
                let put = put.content_md5(md5).body(content.clone().into()).customize();
                put.config_override(self.once(request.bytes()))
                    .send()
                    .await?
                    .e_tag
            }
            Request::Complete { upload, parts } => {
                let complete = self
                    .client
                    .complete_multipart_upload()
                    .bucket(&self.bucket)
                    .key(key);
                let complete = complete.upload_id(upload).multipart_upload(parts.clone());
                let complete = complete.set_if_none_match(if_none_match).customize();
                let answer = complete
                    .config_override(self.once(request.bytes()))
                    .send()
                    .await?;
                match answer.e_tag.filter(|tag| !tag.is_empty()) {
                    Some(tag) => Some(tag),
                    None => Some(self.tag_of_completed(key, parts).await?),
                }
            }
        };
        let tag = tag.filter(|tag| !tag.is_empty());
        tag.map(Version::new)
            .ok_or_else(|| Failure::Denied(Cause("the server gave no ETag".to_owned())))
    }

    /// No repetition by the SDK, and time for so much content.
    pub(super) fn once(&self, bytes: u64) -> ConfigBuilder {
        aws_sdk_s3::Config::builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(self.time_for(bytes))
    }

    pub(super) fn time_for(&self, bytes: u64) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.options.connect_timeout)
            .operation_attempt_timeout(self.options.attempt_timeout(bytes))
            .operation_timeout(self.options.operation_window(bytes))
            .build()
    }
}

/// A write without condition that finds "no such upload" has not lost against anyone.
fn refused(failure: Failure, write: &Write) -> StorageError {
    match (&failure, &write.precondition) {
        (Failure::Absent, Precondition::IfMatch(_)) => write.subject.precondition_failed(),
        (Failure::Absent, _) => write.subject.unavailable("the server has forgotten the upload"),
        (Failure::Conflict(cause), Precondition::None) => write.subject.unavailable(cause.clone()),
        _ => failure.into_error(&write.subject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_attempt_that_may_have_been_done_leaves_doubt() {
        let whole = Request::small("x");
        let complete = Request::Complete {
            upload: String::new(),
            parts: CompletedMultipartUpload::builder().build(),
        };
        let swap = Precondition::IfMatch(Version::new("1"));
        let cause = || Cause(String::new());
        let again = |doubt| Step::Again { doubt };
        for (failure, request, precondition, expected) in [
            (Failure::Transient(cause()), &whole, &swap, again(true)),
            (Failure::Conflict(cause()), &whole, &swap, again(false)),
            (Failure::ConditionFailed, &whole, &swap, Step::Settle),
            (Failure::Absent, &whole, &swap, Step::Settle),
            (Failure::Absent, &whole, &Precondition::IfAbsent, Step::GiveUp),
            (Failure::Absent, &complete, &Precondition::None, Step::Settle),
            (
                Failure::Denied(cause()),
                &complete,
                &Precondition::None,
                Step::GiveUp,
            ),
        ] {
            assert_eq!(
                step_after(&failure, request, precondition),
                expected,
                "{failure:?}"
            );
        }
    }

    #[test]
    fn md5_is_written_as_the_header_wants_it() {
        // The example of RFC 1321 for an empty text, in base64.
        assert_eq!(content_md5(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }
}
