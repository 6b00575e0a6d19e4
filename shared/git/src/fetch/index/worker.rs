//! What one thread does with a whole object: it makes all that builds on it, depth first, and hashes it.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use gix_object::Kind;
use gix_pack::data;
use gix_pack::data::entry::Header;

use super::Lines;
use super::hash::{begun, ended, hash};
use super::records::{Entry, Id};
use super::resolve::Shared;
use super::roots::{Children, Finder, Root};
use super::sorter::Sorter;
use crate::delta;
use crate::fetch::FetchError;

const DAMAGED: FetchError = bad("a delta is damaged, or does not fit what it builds on");
/// Space of so many bytes is used again from object to object.
const SPARE_BYTES: usize = 1024 * 1024;
const SPARES: usize = 8;

/// An object on the way from a whole one to the one that is looked at.
struct Step {
    offset: u64,
    /// Nothing when it was dropped.
    content: Option<Vec<u8>>,
    children: Children,
}

/// One thread's work.
pub(super) struct Worker<'a, 's> {
    shared: &'a Shared<'s>,
    finder: Finder<'a>,
    lines: Sorter<32>,
    inflate: gix_zlib::Inflate,
    delta: Vec<u8>,
    spares: Vec<Vec<u8>>,
    /// From the whole object down.
    path: Vec<Step>,
    /// Bytes of the contents in the path, and how many steps at its beginning have none.
    held: u64,
    dropped: usize,
    /// While anything large is in memory.
    large: Option<MutexGuard<'a, ()>>,
}

impl<'a, 's> Worker<'a, 's> {
    pub(super) fn new(shared: &'a Shared<'s>, lines: Sorter<32>) -> Self {
        Self {
            shared,
            finder: shared.deltas.finder(),
            lines,
            inflate: gix_zlib::Inflate::default(),
            delta: Vec::new(),
            spares: Vec::new(),
            path: Vec::new(),
            held: 0,
            dropped: 0,
            large: None,
        }
    }

    pub(super) fn finish(self) -> io::Result<Lines> {
        self.lines.finish()
    }

    /// Makes all that builds on a whole object.
    pub(super) fn resolve(&mut self, root: Root) -> Result<(), FetchError> {
        let (kind, content) = self.whole(root.offset)?;
        self.push(root.offset, content, root.children);
        while let Some(last) = self.path.last_mut() {
            let child = self.finder.next(&mut last.children);
            let Some(child) = child.map_err(FetchError::from_disk)? else {
                self.pop();
                continue;
            };
            self.shared.goes_on()?;
            self.child(kind, child)?;
        }
        self.large = None;
        Ok(())
    }

    /// Makes a delta of the last object of the path, and goes on to it if anything builds on it.
    fn child(&mut self, kind: Kind, child: Entry) -> Result<(), FetchError> {
        if self.path.len() > self.shared.limits.max_delta_depth as usize {
            return Err(bad("a chain of deltas is too long"));
        }
        self.restore()?;
        let result = self.read_delta(child.offset)?;
        let is_large = result > self.shared.budget.large_bytes;
        let disk = FetchError::from_disk;
        if is_large && !self.finder.has_ids() && !self.finder.has_at(child.offset).map_err(disk)? {
            let id = self.hash_only(kind, result)?;
            return self.found(child, &id);
        }
        let content = self.build(result)?;
        let id = hash(kind, &content)?;
        self.found(child, &id)?;
        let children = self.finder.of(child.offset, &id)?;
        if children.is_empty() {
            self.spare(content);
            return Ok(());
        }
        if self.path.last().is_some_and(|last| last.children.is_empty()) {
            self.drop_content(self.path.len() - 1);
        }
        self.push(child.offset, content, children);
        Ok(())
    }

    fn found(&mut self, entry: Entry, id: &Id) -> Result<(), FetchError> {
        self.shared.counters.resolved.fetch_add(1, Ordering::Relaxed);
        self.lines.push(entry.in_index(id)).map_err(FetchError::from_disk)
    }

    fn push(&mut self, offset: u64, content: Vec<u8>, children: Children) {
        self.held += content.len() as u64;
        self.path.push(Step {
            offset,
            content: Some(content),
            children,
        });
        self.make_room();
    }

    fn pop(&mut self) {
        self.drop_content(self.path.len() - 1);
        self.path.pop();
        self.dropped = self.dropped.min(self.path.len());
    }

    fn drop_content(&mut self, at: usize) {
        if let Some(content) = self.path[at].content.take() {
            self.held -= content.len() as u64;
            self.spare(content);
        }
    }

    /// Drops what is needed last, as long as too much is held; never the last object.
    fn make_room(&mut self) {
        while self.held > self.shared.budget.bases_bytes && self.dropped + 1 < self.path.len() {
            self.drop_content(self.dropped);
            self.dropped += 1;
        }
    }

    /// Makes the last object of the path again if it was dropped, from the nearest one before it that is there.
    fn restore(&mut self) -> Result<(), FetchError> {
        let last = self.path.len() - 1;
        if self.path[last].content.is_some() {
            return Ok(());
        }
        let there = self.path.iter().rposition(|step| step.content.is_some());
        let start = match there {
            Some(at) => at,
            None => {
                let (_, content) = self.whole(self.path[0].offset)?;
                self.put_back(0, content)?;
                0
            }
        };
        for at in start + 1..=last {
            self.shared.goes_on()?;
            let result = self.read_delta(self.path[at].offset)?;
            let content = self.build_on(at - 1, result)?;
            self.put_back(at, content)?;
            if self.path[at - 1].children.is_empty() {
                self.drop_content(at - 1);
            }
        }
        Ok(())
    }

    fn put_back(&mut self, at: usize, content: Vec<u8>) -> Result<(), FetchError> {
        let bytes = content.len() as u64;
        let limit = self.shared.limits.max_unpacked_bytes;
        if self.shared.made_again.fetch_add(bytes, Ordering::Relaxed) + bytes > limit {
            let what = " when its deltas are resolved";
            return Err(FetchError::RepositoryTooLarge { limit, what });
        }
        self.held += bytes;
        self.path[at].content = Some(content);
        self.dropped = self.dropped.min(at);
        // What is before it is needed last; what is behind it has no content.
        while self.held > self.shared.budget.bases_bytes && self.dropped < at {
            self.drop_content(self.dropped);
            self.dropped += 1;
        }
        Ok(())
    }

    /// Reads a whole object.
    fn whole(&mut self, offset: u64) -> Result<(Kind, Vec<u8>), FetchError> {
        let entry = self.entry(offset)?;
        let kind = entry.header.as_kind().ok_or(DAMAGED)?;
        self.expect(entry.decompressed_size);
        let mut content = self.space();
        self.inflate(&entry, &mut content)?;
        Ok((kind, content))
    }

    /// Reads a delta, and gives the size of what it makes.
    fn read_delta(&mut self, offset: u64) -> Result<u64, FetchError> {
        let entry = self.entry(offset)?;
        if !matches!(entry.header, Header::OfsDelta { .. } | Header::RefDelta { .. }) {
            return Err(DAMAGED);
        }
        self.expect(entry.decompressed_size);
        let mut delta = std::mem::take(&mut self.delta);
        let inflated = self.inflate(&entry, &mut delta);
        self.delta = delta;
        inflated?;
        let (sizes, _) = delta::sizes(&self.delta).map_err(|_| DAMAGED)?;
        if sizes.result > self.shared.limits.max_object_bytes {
            return Err(DAMAGED);
        }
        self.expect(sizes.result);
        Ok(sizes.result)
    }

    /// The header of an entry; it was read once before.
    fn entry(&self, offset: u64) -> Result<data::Entry, FetchError> {
        self.shared.pack.entry(offset).map_err(|_| DAMAGED)
    }

    fn inflate(&mut self, entry: &data::Entry, into: &mut Vec<u8>) -> Result<(), FetchError> {
        let pack = self.shared.pack;
        let bytes = entry.decompressed_size;
        if bytes > self.shared.limits.max_object_bytes {
            return Err(DAMAGED);
        }
        let range = entry.data_offset..pack.pack_end() as u64;
        let compressed = pack.entry_slice(range).ok_or(DAMAGED)?;
        into.clear();
        into.resize(usize::try_from(bytes).map_err(|_| DAMAGED)?, 0);
        if into.is_empty() {
            return Ok(());
        }
        self.inflate.reset();
        match self.inflate.once(compressed, into) {
            Ok((_, _, made)) if made == into.len() => Ok(()),
            _ => Err(DAMAGED),
        }
    }

    /// Makes the object that the delta describes, on the last of the path.
    fn build(&mut self, bytes: u64) -> Result<Vec<u8>, FetchError> {
        self.build_on(self.path.len() - 1, bytes)
    }

    fn build_on(&mut self, base: usize, bytes: u64) -> Result<Vec<u8>, FetchError> {
        let mut content = self.space();
        let base = self.path[base].content.as_ref().ok_or(DAMAGED)?;
        delta::apply_into(base, &self.delta, bytes, &mut content).map_err(|_| DAMAGED)?;
        self.trim_delta();
        Ok(content)
    }

    /// The id of the object that the delta describes, on the last of the path. It is never in memory as a whole.
    fn hash_only(&mut self, kind: Kind, bytes: u64) -> Result<Id, FetchError> {
        let base = self
            .path
            .last()
            .and_then(|last| last.content.as_ref())
            .ok_or(DAMAGED)?;
        let mut hasher = begun(kind, bytes);
        delta::pieces(base, &self.delta, bytes, |piece| hasher.update(piece)).map_err(|_| DAMAGED)?;
        self.trim_delta();
        ended(hasher)
    }

    /// Waits until no other thread works on anything large, if so many bytes are.
    fn expect(&mut self, bytes: u64) {
        if bytes > self.shared.budget.large_bytes && self.large.is_none() {
            let shared = self.shared;
            self.large = Some(shared.large.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn space(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    fn spare(&mut self, mut space: Vec<u8>) {
        if space.capacity() <= SPARE_BYTES && self.spares.len() < SPARES {
            space.clear();
            self.spares.push(space);
        }
    }

    fn trim_delta(&mut self) {
        if self.delta.capacity() > SPARE_BYTES {
            self.delta = Vec::new();
        }
    }
}

const fn bad(what: &'static str) -> FetchError {
    FetchError::BadPack { what }
}
