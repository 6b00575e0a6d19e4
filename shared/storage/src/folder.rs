//! One level of names out of a listing of all of them. Decides purely.

use std::num::NonZeroUsize;

use crate::{FolderPage, ObjectMeta};

/// What follows every text that begins with a folder's: `~` is in no key.
const LAST_IN_FOLDER: char = '~';

/// One entry of a level.
pub(crate) enum Entry {
    Object(ObjectMeta),
    Folder(String),
}

impl Entry {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Object(object) => object.key.as_str(),
            Self::Folder(folder) => folder,
        }
    }
}

/// The page that begins after `after`, out of all objects whose keys begin with `prefix`, sorted by key.
pub(crate) fn page(
    prefix: &str,
    objects: Vec<ObjectMeta>,
    after: Option<&str>,
    limit: NonZeroUsize,
) -> FolderPage {
    let mut entries = Vec::new();
    for object in objects {
        match folder_of(prefix, object.key.as_str()) {
            None => entries.push(Entry::Object(object)),
            Some(folder) => {
                if entries.last().is_none_or(|last: &Entry| last.name() != folder) {
                    entries.push(Entry::Folder(folder.to_owned()));
                }
            }
        }
    }
    page_of(entries, after, limit)
}

/// The page that begins after `after`, out of a whole level.
pub(crate) fn page_of(mut entries: Vec<Entry>, after: Option<&str>, limit: NonZeroUsize) -> FolderPage {
    entries.retain(|entry| after.is_none_or(|after| entry.name() > after));
    entries.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    let has_more = entries.len() > limit.get();
    entries.truncate(limit.get());
    let mut page = FolderPage {
        next: entries
            .last()
            .filter(|_| has_more)
            .map(|last| last.name().to_owned()),
        ..FolderPage::default()
    };
    for entry in entries {
        match entry {
            Entry::Object(object) => page.objects.push(object),
            Entry::Folder(folder) => page.folders.push(folder),
        }
    }
    page
}

/// The folder directly below the prefix that a key lies in.
fn folder_of<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    let at = key.strip_prefix(prefix)?.find('/')?;
    key.get(..=prefix.len() + at)
}

/// The text after which a listing of whole keys goes on behind `after`, which may be a folder.
pub(crate) fn behind(after: &str) -> String {
    match after.ends_with('/') {
        true => format!("{after}{LAST_IN_FOLDER}"),
        false => after.to_owned(),
    }
}
