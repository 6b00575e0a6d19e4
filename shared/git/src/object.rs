//! The four kinds of git object, and ids on both sides of the git library.

use std::fmt;

use git2::{ObjectType, Oid};
use mayfly_protocol::ObjectId;

/// The kinds of git object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A commit.
    Commit,
    /// A tree: a folder's entries.
    Tree,
    /// A blob: a file's content or a link's target.
    Blob,
    /// An annotated tag.
    Tag,
}

/// The git library names a kind that is none of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is none of commit, tree, blob and tag")]
pub struct UnknownKind;

impl ObjectKind {
    /// The id of an object of this kind with this content.
    pub fn hash(self, content: &[u8]) -> Result<ObjectId, git2::Error> {
        Ok(from_oid(Oid::hash_object(self.into(), content)?))
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ObjectType::from(*self).str())
    }
}

impl From<ObjectKind> for ObjectType {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Commit => Self::Commit,
            ObjectKind::Tree => Self::Tree,
            ObjectKind::Blob => Self::Blob,
            ObjectKind::Tag => Self::Tag,
        }
    }
}

impl TryFrom<ObjectType> for ObjectKind {
    type Error = UnknownKind;
    fn try_from(kind: ObjectType) -> Result<Self, UnknownKind> {
        match kind {
            ObjectType::Commit => Ok(Self::Commit),
            ObjectType::Tree => Ok(Self::Tree),
            ObjectType::Blob => Ok(Self::Blob),
            ObjectType::Tag => Ok(Self::Tag),
            ObjectType::Any => Err(UnknownKind),
        }
    }
}

pub(crate) fn to_oid(id: &ObjectId) -> Oid {
    Oid::from_bytes(id.as_bytes()).expect("an id of 20 bytes is always one for git2")
}

pub(crate) fn from_oid(oid: Oid) -> ObjectId {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(oid.as_bytes());
    ObjectId::from_bytes(bytes)
}
