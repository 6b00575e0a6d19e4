//! Reads objects out of packs on this machine's disk, by gix.
//!
//! Each object is hashed and held against its id, so that a damaged pack or index gives an error and never another object.
//! This module must not know what is done with the objects.

use std::cell::RefCell;
use std::path::PathBuf;

use gix_pack::cache::lru::MemoryCappedHashmap;
use gix_pack::data::decode::header;
use gix_pack::{Bundle, data, index};
use mayfly_protocol::{ObjectId, TreeId};
use tokio_util::sync::CancellationToken;

use crate::object::ObjectKind;
use crate::pack::PackFiles;
use crate::scratch::ScratchError;
use crate::tree_check::TreeSource;

const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;
/// Bytes of objects that are kept since others may be deltas of them.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// A pack or its index cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the pack `{}` or its index cannot be opened", path.display())]
pub struct OpenPackError {
    /// The pack.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Complete packs, each of which holds all bases of its deltas.
pub(crate) struct LocalPacks<'a> {
    packs: Vec<Bundle>,
    reading: RefCell<Reading>,
    cancel: &'a CancellationToken,
}

/// What is used again from object to object.
struct Reading {
    inflate: gix_zlib::Inflate,
    cache: MemoryCappedHashmap,
}

impl<'a> LocalPacks<'a> {
    /// Opens the packs. Nothing in them that is larger than `max_bytes` can be read, be it only the base of a delta.
    pub(crate) fn open(
        packs: &[PackFiles],
        max_bytes: u64,
        cancel: &'a CancellationToken,
    ) -> Result<Self, OpenPackError> {
        Self::open_with_cache(packs, max_bytes, CACHE_BYTES, cancel)
    }

    /// The same, with so many bytes of objects kept since others may be deltas of them.
    pub(crate) fn open_with_cache(
        packs: &[PackFiles],
        max_bytes: u64,
        cache_bytes: usize,
        cancel: &'a CancellationToken,
    ) -> Result<Self, OpenPackError> {
        let numbered = (0..).zip(packs);
        let packs = numbered.map(|(number, files)| {
            open(files, number, max_bytes).map_err(|error| OpenPackError {
                path: files.pack.clone(),
                source: error.into(),
            })
        });
        Ok(Self {
            packs: packs.collect::<Result<_, _>>()?,
            reading: RefCell::new(Reading {
                inflate: gix_zlib::Inflate::default(),
                cache: MemoryCappedHashmap::new(cache_bytes),
            }),
            cancel,
        })
    }

    /// The kind and the size of an object, from the headers of its entry and of what that is a delta of.
    fn header(&self, id: &ObjectId) -> Result<(ObjectKind, u64), ScratchError> {
        if self.cancel.is_cancelled() {
            return Err(ScratchError::Cancelled);
        }
        let (bundle, at) = self.find(id)?;
        let Bundle { pack, index } = bundle;
        let resolve = |base: &gix_hash::oid| {
            let offset = index.lookup(base).map(|at| index.pack_offset_at_index(at));
            let entry = offset.map(|offset| pack.entry(offset)).transpose()?;
            Ok(entry.map(header::ResolvedBase::InPack))
        };
        let mut reading = self.reading.borrow_mut();
        let outcome = pack
            .entry(index.pack_offset_at_index(at))
            .and_then(|entry| pack.decode_header(entry, &mut reading.inflate, &resolve))
            .map_err(|error| damaged(id, &error))?;
        Ok((kind(outcome.kind), outcome.object_size))
    }

    /// The size of a blob of at most `max_bytes`, without reading it.
    pub(crate) fn blob_bytes(&self, id: &ObjectId, max_bytes: u64) -> Result<u64, ScratchError> {
        self.bounded_header(id, ObjectKind::Blob, max_bytes)
    }

    /// The content of a blob of at most `max_bytes`.
    pub(crate) fn blob(&self, id: &ObjectId, max_bytes: u64) -> Result<Vec<u8>, ScratchError> {
        self.read(id, ObjectKind::Blob, max_bytes)
    }

    fn bounded_header(&self, id: &ObjectId, expected: ObjectKind, max: u64) -> Result<u64, ScratchError> {
        let (kind, bytes) = self.header(id)?;
        if kind != expected {
            let reason = format!("it is a {kind} where a {expected} should be");
            return Err(ScratchError::Damaged { id: *id, reason });
        }
        if bytes > max {
            return Err(ScratchError::TooLarge { id: *id, bytes, max });
        }
        Ok(bytes)
    }

    pub(crate) fn read(
        &self,
        id: &ObjectId,
        expected: ObjectKind,
        max: u64,
    ) -> Result<Vec<u8>, ScratchError> {
        self.bounded_header(id, expected, max)?;
        let (bundle, at) = self.find(id)?;
        let mut content = Vec::new();
        let Reading { inflate, cache } = &mut *self.reading.borrow_mut();
        bundle
            .get_object_by_index(at, &mut content, inflate, cache)
            .map_err(|error| damaged(id, &error))?;
        match expected.hash(&content) {
            Ok(hash) if hash == *id => Ok(content),
            Ok(_) => Err(damaged(id, &"its content has another id")),
            Err(error) => Err(damaged(id, &error)),
        }
    }

    fn find(&self, id: &ObjectId) -> Result<(&Bundle, index::EntryIndex), ScratchError> {
        let wanted = gix_hash::ObjectId::from(*id.as_bytes());
        let mut found = self
            .packs
            .iter()
            .filter_map(|bundle| Some((bundle, bundle.index.lookup(wanted)?)));
        found.next().ok_or(ScratchError::Missing { id: *id })
    }
}

impl TreeSource for LocalPacks<'_> {
    fn tree(&self, id: &TreeId, max_bytes: u64) -> Result<Vec<u8>, ScratchError> {
        // Like git, which knows this one without having it.
        if *id == TreeId::EMPTY_TREE {
            return Ok(Vec::new());
        }
        self.read(id, ObjectKind::Tree, max_bytes)
    }
}

fn open(files: &PackFiles, number: u32, max_bytes: u64) -> gix_error::Result<Bundle> {
    let index = index::File::at(&files.index, SHA1)?;
    let mut pack = data::File::at(&files.pack, SHA1)?;
    pack.id = number;
    pack.alloc_limit_bytes = Some(usize::try_from(max_bytes).unwrap_or(usize::MAX));
    Ok(Bundle { pack, index })
}

fn kind(kind: gix_object::Kind) -> ObjectKind {
    match kind {
        gix_object::Kind::Tree => ObjectKind::Tree,
        gix_object::Kind::Blob => ObjectKind::Blob,
        gix_object::Kind::Commit => ObjectKind::Commit,
        gix_object::Kind::Tag => ObjectKind::Tag,
    }
}

fn damaged(id: &ObjectId, reason: &dyn std::fmt::Display) -> ScratchError {
    ScratchError::Damaged {
        id: *id,
        reason: reason.to_string(),
    }
}
