//! Finds the whole objects that deltas build on, and the deltas of each object.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Budget;
use super::notes::Noted;
use super::records::{ById, ByPlace, Entry, Id, WholeRecord, of_whole};
use super::sorter::{Merge, Runs};
use super::table::{Reader, Table};
use crate::fetch::FetchError;

const BY_PLACE: usize = size_of::<ByPlace>();
const BY_ID: usize = size_of::<ById>();
const WHOLE: usize = size_of::<WholeRecord>();

/// The deltas of a pack, by what they build on.
pub(super) struct Deltas {
    by_place: Table<BY_PLACE, 8>,
    by_id: Table<BY_ID, 20>,
    /// A bit for each delta by id: its base was found.
    taken: Vec<AtomicU64>,
}

impl Deltas {
    /// Sorts what is noted; what is left are the whole objects.
    pub(super) fn sort(
        folder: &Path,
        noted: Noted,
        budget: &Budget,
    ) -> io::Result<(Self, Runs<WHOLE>, super::Lines)> {
        let by_place = Table::write(folder, noted.by_place.merge(budget.sort_bytes)?)?;
        let by_id = Table::write(folder, noted.by_id.merge(budget.sort_bytes)?)?;
        let words = by_id.records().div_ceil(64) as usize;
        let deltas = Self {
            by_place,
            by_id,
            taken: std::iter::repeat_with(AtomicU64::default).take(words).collect(),
        };
        Ok((deltas, noted.whole, noted.index))
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.by_place.records() + self.by_id.records()
    }

    pub(super) fn finder(&self) -> Finder<'_> {
        Finder {
            deltas: self,
            by_place: self.by_place.reader(),
            by_id: self.by_id.reader(),
        }
    }

    /// Whether the delta at this position is taken for the first time.
    fn take(&self, position: u64) -> bool {
        let bit = 1 << (position % 64);
        let before = self.taken[(position / 64) as usize].fetch_or(bit, Ordering::Relaxed);
        before & bit == 0
    }
}

/// Finds the deltas of objects.
pub(super) struct Finder<'d> {
    deltas: &'d Deltas,
    by_place: Reader<'d, BY_PLACE, 8>,
    by_id: Reader<'d, BY_ID, 20>,
}

impl Finder<'_> {
    /// Whether any delta names its base by id.
    pub(super) fn has_ids(&self) -> bool {
        self.deltas.by_id.records() > 0
    }

    /// Whether a delta builds on the object at this place.
    pub(super) fn has_at(&mut self, offset: u64) -> io::Result<bool> {
        Ok(self.by_place.find(&offset.to_be_bytes())?.is_some())
    }

    /// The deltas of an object.
    pub(super) fn of(&mut self, offset: u64, id: &Id) -> Result<Children, FetchError> {
        let disk = FetchError::from_disk;
        let at_place = self.by_place.find(&offset.to_be_bytes()).map_err(disk)?;
        let mut at_id = None;
        if self.has_ids() {
            at_id = self.by_id.find(id).map_err(disk)?;
        }
        if at_id.is_some_and(|first| !self.deltas.take(first)) {
            // Git refuses this, too.
            let what = "an object is there twice, and a delta names it by its id";
            return Err(FetchError::BadPack { what });
        }
        let mut children = Children {
            offset,
            id: *id,
            at_place,
            at_id,
            upcoming: None,
        };
        children.upcoming = self.following(&mut children).map_err(disk)?;
        Ok(children)
    }

    /// The next of the deltas.
    pub(super) fn next(&mut self, children: &mut Children) -> io::Result<Option<Entry>> {
        let Some(child) = children.upcoming else {
            return Ok(None);
        };
        children.upcoming = self.following(children)?;
        Ok(Some(child))
    }

    fn following(&mut self, children: &mut Children) -> io::Result<Option<Entry>> {
        if let Some(position) = children.at_place {
            let key = children.offset.to_be_bytes();
            if let Some(record) = self.by_place.at(position, &key)? {
                children.at_place = Some(position + 1);
                return Ok(Some(Entry::of(&record)));
            }
            children.at_place = None;
        }
        if let Some(position) = children.at_id {
            if let Some(record) = self.by_id.at(position, &children.id)? {
                children.at_id = Some(position + 1);
                return Ok(Some(Entry::of(&record)));
            }
            children.at_id = None;
        }
        Ok(None)
    }
}

/// The deltas of one object that are still to come.
pub(super) struct Children {
    offset: u64,
    id: Id,
    at_place: Option<u64>,
    at_id: Option<u64>,
    upcoming: Option<Entry>,
}

impl Children {
    pub(super) fn is_empty(&self) -> bool {
        self.upcoming.is_none()
    }
}

/// A whole object that deltas build on.
pub(super) struct Root {
    pub(super) offset: u64,
    pub(super) children: Children,
}

/// All roots, in the order of the pack.
pub(super) struct Roots<'d> {
    whole: Merge<WHOLE>,
    finder: Finder<'d>,
    /// Where the deltas begin that build on what comes next.
    position: u64,
}

impl<'d> Roots<'d> {
    pub(super) fn new(whole: Runs<WHOLE>, deltas: &'d Deltas, budget: &Budget) -> io::Result<Self> {
        Ok(Self {
            whole: whole.merge(budget.sort_bytes)?,
            finder: deltas.finder(),
            position: 0,
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<Root>, FetchError> {
        let disk = FetchError::from_disk;
        while let Some(record) = self.whole.next().map_err(disk)? {
            let (offset, id) = of_whole(&record);
            if self.is_base(offset).map_err(disk)? || self.finder.has_ids() {
                let children = self.finder.of(offset, &id)?;
                if !children.is_empty() {
                    return Ok(Some(Root { offset, children }));
                }
            }
        }
        Ok(None)
    }

    /// Whether deltas build on this place, which is behind all that were asked for before.
    fn is_base(&mut self, offset: u64) -> io::Result<bool> {
        let place = offset.to_be_bytes();
        while let Some(record) = self.finder.by_place.get(self.position)? {
            if record[..8] >= place[..] {
                return Ok(record[..8] == place);
            }
            self.position += 1;
        }
        Ok(false)
    }
}
