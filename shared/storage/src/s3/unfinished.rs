//! Uploads in parts that were begun and not ended, by anyone, below the store's prefix.

use super::S3Store;
use super::failure::Failure;
use crate::error::Subject;
use crate::{Key, Operation, StorageError, Unfinished, UnfinishedId};
use aws_sdk_s3::types::MultipartUpload;

/// S3 tells neither what the parts occupy nor when the last of them came.
pub(super) async fn list(store: &S3Store) -> Result<Vec<Unfinished>, StorageError> {
    let subject = Subject::of_prefix(Operation::Unfinished, "");
    let (mut found, mut position) = (Vec::new(), (None, None));
    loop {
        let (key_marker, id_marker) = position.clone();
        let request = store.client.list_multipart_uploads().bucket(&store.bucket);
        let request = request.prefix(&store.prefix).set_key_marker(key_marker);
        let answer = request.set_upload_id_marker(id_marker).send().await;
        let page = answer.map_err(|error| Failure::from(error).into_error(&subject))?;
        found.extend(page.uploads().iter().filter_map(|upload| own(store, upload)));
        let next = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) || next == position {
            break;
        }
        position = next;
    }
    found.sort_unstable_by_key(|unfinished| unfinished.alive_at);
    Ok(found)
}

fn own(store: &S3Store, upload: &MultipartUpload) -> Option<Unfinished> {
    let key = Key::new(upload.key()?.strip_prefix(&store.prefix)?).ok()?;
    Some(Unfinished {
        key: Some(key),
        id: UnfinishedId::new(upload.upload_id()?),
        bytes: None,
        alive_at: (*upload.initiated()?).try_into().ok()?,
    })
}

pub(super) async fn discard(store: &S3Store, unfinished: &Unfinished) -> Result<(), StorageError> {
    let Some(key) = &unfinished.key else {
        return Ok(());
    };
    let request = store
        .client
        .abort_multipart_upload()
        .bucket(&store.bucket)
        .key(store.full_key(key))
        .upload_id(unfinished.id.as_str());
    match request.send().await.map_err(Failure::from) {
        Ok(_) | Err(Failure::Absent) => Ok(()),
        Err(failure) => Err(failure.into_error(&Subject::new(Operation::Discard, key))),
    }
}
