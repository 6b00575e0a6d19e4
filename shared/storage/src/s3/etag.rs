//! In which form a server takes its own ETags back. See the head of [`super`].

use std::sync::{Arc, OnceLock};

use aws_sdk_s3::types::CompletedMultipartUpload;
use md5::{Digest, Md5};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::failure::{Cause, Failure};
use super::write::Request;
use super::{S3Store, read};
use crate::error::Subject;
use crate::{EtagForm, Key, Precondition, StorageError, Version};

/// What is known about the form so far; shared by the clones of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct EtagForms {
    known: Arc<OnceLock<EtagForm>>,
    learning: Arc<Mutex<()>>,
}

impl EtagForms {
    pub(super) fn new(configured: Option<EtagForm>) -> Self {
        let forms = Self::default();
        if let Some(form) = configured {
            forms.note(form);
        }
        forms
    }

    /// The value of `If-Match` for a version.
    pub(super) fn write(&self, version: &Version) -> String {
        in_form(self.known.get().copied(), version)
    }

    /// Notes the form that a write has just proved; the first proof stands.
    pub(super) fn note(&self, form: EtagForm) {
        let _ = self.known.set(form);
    }

    fn may_be_wrong(&self, version: &Version) -> bool {
        self.known.get().is_none() && unquoted(version.as_str()) != version.as_str()
    }
}

fn in_form(form: Option<EtagForm>, version: &Version) -> String {
    match form {
        None | Some(EtagForm::AsGiven) => version.as_str().to_owned(),
        Some(EtagForm::Unquoted) => unquoted(version.as_str()).to_owned(),
    }
}

fn unquoted(tag: &str) -> &str {
    tag.strip_prefix('"')
        .and_then(|tag| tag.strip_suffix('"'))
        .unwrap_or(tag)
}

/// The ETag that S3 gives an object made of parts: the MD5 of their MD5s, and their number. None where a part's ETag is no MD5.
fn of_parts(parts: &CompletedMultipartUpload) -> Option<String> {
    let mut all = Md5::new();
    for part in parts.parts() {
        all.update(md5_of_tag(part.e_tag()?)?);
    }
    let digits: String = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{digits}-{}", parts.parts().len()))
}

fn md5_of_tag(tag: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(unquoted(tag), 16).ok()?;
    (unquoted(tag).len() == 32).then(|| number.to_be_bytes())
}

impl S3Store {
    /// Called when a server refuses `version` in `If-Match`: whether it is worth another try, because the form was to blame and now is known.
    pub(super) async fn learn_etag_form(
        &self,
        subject: &Subject,
        key: &Key,
        version: &Version,
    ) -> Result<bool, StorageError> {
        if !self.etag_forms.may_be_wrong(version) {
            return Ok(false);
        }
        let current = read::head(self, subject, key).await?;
        if current.is_none_or(|(_, current)| current != *version) {
            return Ok(false);
        }
        let _one_at_a_time = self.etag_forms.learning.lock().await;
        if self.etag_forms.may_be_wrong(version) {
            let form = Box::pin(self.probe_etag_forms()).await;
            self.etag_forms
                .note(form.map_err(|failure| failure.into_error(subject))?);
        }
        Ok(true)
    }

    /// Tries both forms on an object of our own, which is removed again.
    async fn probe_etag_forms(&self) -> Result<EtagForm, Failure> {
        let key = format!("{}.mayfly-probe/{}", self.prefix, Uuid::new_v4());
        let verdict = self.try_etag_forms(&key).await;
        // A scratch object that stays is hidden from listings and harmless.
        let _ = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(&key)
            .send()
            .await;
        verdict
    }

    async fn try_etag_forms(&self, key: &str) -> Result<EtagForm, Failure> {
        let first = self
            .send(key, &Request::small("1"), &Precondition::None, None)
            .await?;
        let swap = Precondition::IfMatch(first);
        for form in [EtagForm::AsGiven, EtagForm::Unquoted] {
            match self.send(key, &Request::small("2"), &swap, Some(form)).await {
                Ok(_) => return self.check_stale_is_refused(key, &swap, form).await,
                Err(Failure::ConditionFailed | Failure::Absent) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Denied(Cause(
            "the server takes its own ETag in no form of If-Match; use another store".to_owned(),
        )))
    }

    async fn check_stale_is_refused(
        &self,
        key: &str,
        stale: &Precondition,
        form: EtagForm,
    ) -> Result<EtagForm, Failure> {
        match self.send(key, &Request::small("3"), stale, Some(form)).await {
            Err(Failure::ConditionFailed | Failure::Absent) => Ok(form),
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::Denied(Cause(
                "the server takes a stale ETag in If-Match; use another store".to_owned(),
            ))),
        }
    }

    /// The ETag of an object that was just completed from parts, where the server does not tell it (Ceph's gateway leaves it empty).
    ///
    /// It is asked for, and believed only if it is that of these parts: another writer may have been there since.
    pub(super) async fn tag_of_completed(
        &self,
        key: &str,
        parts: &CompletedMultipartUpload,
    ) -> Result<String, Failure> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let tag = request.send().await?.e_tag.unwrap_or_default();
        match of_parts(parts).is_some_and(|expected| unquoted(&tag) == expected) {
            true => Ok(tag),
            false => Err(Failure::transient("the server gave no ETag")),
        }
    }

    /// The value of `If-Match`, in the given form or in the one that is known.
    pub(super) fn if_match(&self, version: &Version, form: Option<EtagForm>) -> String {
        match form {
            Some(form) => in_form(Some(form), version),
            None => self.etag_forms.write(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::CompletedPart;

    use super::*;

    #[test]
    fn the_tag_of_parts_is_that_of_their_tags() {
        let parts = |tags: &[&str]| {
            let parts = tags
                .iter()
                .map(|tag| CompletedPart::builder().e_tag(*tag).build());
            CompletedMultipartUpload::builder()
                .set_parts(Some(parts.collect()))
                .build()
        };
        // As Ceph 16.2 tells it for one part of 100 `x`.
        assert_eq!(
            of_parts(&parts(&["\"aed563ecafb4bcc5654c597a421547b2\""])).as_deref(),
            Some("bccb8986cc6b395e4f045d410c776698-1")
        );
        assert_eq!(of_parts(&parts(&["\"not-an-md5\""])), None);
    }

    #[test]
    fn tags_are_written_in_the_known_form() {
        let (quoted, bare) = (Version::new("\"abc\""), Version::new("abc"));
        let forms = EtagForms::new(None);
        assert_eq!(forms.write(&quoted), "\"abc\"");
        assert!(forms.may_be_wrong(&quoted) && !forms.may_be_wrong(&bare));
        forms.note(EtagForm::Unquoted);
        assert_eq!(
            (forms.write(&quoted), forms.write(&bare)),
            ("abc".to_owned(), "abc".to_owned())
        );
        assert!(!forms.may_be_wrong(&quoted));
        assert_eq!(EtagForms::new(Some(EtagForm::AsGiven)).write(&quoted), "\"abc\"");
    }
}
