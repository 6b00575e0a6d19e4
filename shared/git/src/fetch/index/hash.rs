//! Ids of objects, hashed as git does: with an eye on attempts to make two objects of one id.

use gix_hash::Hasher;
use gix_object::Kind;

use super::SHA1;
use super::records::Id;
use crate::fetch::FetchError;

/// The id of an object.
pub(super) fn hash(kind: Kind, content: &[u8]) -> Result<Id, FetchError> {
    let mut hasher = begun(kind, content.len() as u64);
    hasher.update(content);
    ended(hasher)
}

/// The hash of an object before its content.
pub(in crate::fetch) fn begun(kind: Kind, bytes: u64) -> Hasher {
    let mut hasher = gix_hash::hasher(SHA1);
    hasher.update(&gix_object::encode::loose_header(kind, bytes));
    hasher
}

/// The id that a hash has come to.
pub(in crate::fetch) fn ended(hasher: Hasher) -> Result<Id, FetchError> {
    let hash = hasher.try_finalize();
    id_of(hash.map_err(|error| FetchError::Unindexable(error.into()))?)
}

/// The bytes of an id.
pub(in crate::fetch) fn id_of(id: gix_hash::ObjectId) -> Result<Id, FetchError> {
    let id = id.as_slice().try_into();
    id.map_err(|_| FetchError::BadPack {
        what: "its ids are of another kind",
    })
}
