//! What is noted of a pack's objects, as records of fixed width whose bytes sort as they should: big-endian, keys first.

/// Bytes of an id.
pub(super) const ID_BYTES: usize = 20;

/// An object's id.
pub(super) type Id = [u8; ID_BYTES];

/// A line of the index: id, place, checksum.
pub(super) type IndexRecord = [u8; 32];
/// A whole object: place, id.
pub(super) type WholeRecord = [u8; 28];
/// A delta whose base is named by its place: the base's place, its own, checksum.
pub(super) type ByPlace = [u8; 20];
/// A delta whose base is named by its id: the base's id, its own place, checksum.
pub(super) type ById = [u8; 32];

/// An object of the pack that is found: its place, and the checksum of its compressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) crc: u32,
}

impl Entry {
    /// The record of the index.
    pub(super) fn in_index(self, id: &Id) -> IndexRecord {
        self.after(id)
    }

    /// The record of a delta whose base stands at `base`.
    pub(super) fn on_place(self, base: u64) -> ByPlace {
        self.after(&base.to_be_bytes())
    }

    /// The record of a delta whose base has the id.
    pub(super) fn on_id(self, base: &Id) -> ById {
        self.after(base)
    }

    fn after<const KEY: usize, const ALL: usize>(self, key: &[u8; KEY]) -> [u8; ALL] {
        const { assert!(KEY + 12 == ALL) }
        let mut record = [0; ALL];
        let (first, rest) = record.split_at_mut(KEY);
        first.copy_from_slice(key);
        rest[..8].copy_from_slice(&self.offset.to_be_bytes());
        rest[8..].copy_from_slice(&self.crc.to_be_bytes());
        record
    }

    /// The entry that stands in a record behind its key.
    pub(super) fn of<const ALL: usize>(record: &[u8; ALL]) -> Self {
        const { assert!(ALL >= 12) }
        let [.., a, b, c, d, e, f, g, h, i, j, k, l] = *record.as_slice() else {
            unreachable!("a record holds an entry: it has twelve bytes and more");
        };
        Self {
            offset: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            crc: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// The record of a whole object.
pub(super) fn whole(offset: u64, id: &Id) -> WholeRecord {
    let mut record = [0; 28];
    record[..8].copy_from_slice(&offset.to_be_bytes());
    record[8..].copy_from_slice(id);
    record
}

/// The place and the id of a whole object.
pub(super) fn of_whole(record: &WholeRecord) -> (u64, Id) {
    let mut place = [0; 8];
    let mut id = [0; ID_BYTES];
    place.copy_from_slice(&record[..8]);
    id.copy_from_slice(&record[8..]);
    (u64::from_be_bytes(place), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_sort_by_key_and_then_by_place() {
        let entry = |offset, crc| Entry { offset, crc };
        assert!(entry(256, 9).on_place(1) < entry(257, 0).on_place(1));
        assert!(entry(1 << 40, 9).on_place(255) < entry(1, 0).on_place(256));
        assert!(entry(9, 0).in_index(&[1; 20]) < entry(1, 0).in_index(&[2; 20]));
        assert_eq!(Entry::of(&entry(1 << 33, 7).on_id(&[9; 20])), entry(1 << 33, 7));
        assert_eq!(of_whole(&whole(1 << 33, &[3; 20])), (1 << 33, [3; 20]));
    }
}
