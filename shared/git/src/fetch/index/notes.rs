//! What is noted while a pack arrives: its whole objects with their ids, and its deltas by what they build on.

use std::io;
use std::path::Path;

use super::Budget;
use super::records::{ById, ByPlace, Entry, Id, IndexRecord, WholeRecord, whole};
use super::sorter::{Runs, Sorter};

/// Takes notes; what does not fit into memory goes to files without names.
pub(crate) struct Notes {
    whole: Sorter<{ size_of::<WholeRecord>() }>,
    by_place: Sorter<{ size_of::<ByPlace>() }>,
    by_id: Sorter<{ size_of::<ById>() }>,
    index: Sorter<{ size_of::<IndexRecord>() }>,
}

/// All notes of one pack.
pub(super) struct Noted {
    pub(super) whole: Runs<{ size_of::<WholeRecord>() }>,
    pub(super) by_place: Runs<{ size_of::<ByPlace>() }>,
    pub(super) by_id: Runs<{ size_of::<ById>() }>,
    /// The lines of the index that are known: those of the whole objects.
    pub(super) index: Runs<{ size_of::<IndexRecord>() }>,
}

/// What an entry of the pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noting {
    /// A whole object with this id.
    Whole(Id),
    /// A delta on the object at this place.
    OnPlace(u64),
    /// A delta on the object with this id.
    OnId(Id),
}

impl Notes {
    pub(crate) fn new(folder: &Path, budget: &Budget) -> Self {
        let bytes = budget.sort_bytes;
        Self {
            whole: Sorter::new(folder.to_owned(), bytes),
            by_place: Sorter::new(folder.to_owned(), bytes),
            by_id: Sorter::new(folder.to_owned(), bytes),
            index: Sorter::new(folder.to_owned(), bytes),
        }
    }

    /// Notes the entry at `offset`, whose bytes in the pack have the checksum `crc`.
    pub(crate) fn note(&mut self, what: Noting, offset: u64, crc: u32) -> io::Result<()> {
        let entry = Entry { offset, crc };
        match what {
            Noting::Whole(id) => {
                self.whole.push(whole(offset, &id))?;
                self.index.push(entry.in_index(&id))
            }
            Noting::OnPlace(base) => self.by_place.push(entry.on_place(base)),
            Noting::OnId(base) => self.by_id.push(entry.on_id(&base)),
        }
    }

    pub(super) fn finish(self) -> io::Result<Noted> {
        Ok(Noted {
            whole: self.whole.finish()?,
            by_place: self.by_place.finish()?,
            by_id: self.by_id.finish()?,
            index: self.index.finish()?,
        })
    }
}
