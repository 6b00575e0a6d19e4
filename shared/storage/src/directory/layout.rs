//! Where things are below the root, and how they are looked up without following links. Must not write objects.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::Subject;
use crate::folder::Entry as Level;
use crate::key::{RESERVED_PREFIX, check_component};
use crate::{Key, ObjectMeta, StorageError};

const LOCKS: &str = ".mayfly-locks";
const UNFINISHED: &str = ".mayfly-tmp";
const PRIVATE_FOLDER: u32 = 0o700;

/// The paths of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        let layout = Self {
            root: root.to_owned(),
        };
        for folder in [layout.locks(), layout.unfinished()] {
            DirBuilder::new()
                .recursive(true)
                .mode(PRIVATE_FOLDER)
                .create(folder)?;
        }
        Ok(layout)
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.root.join(LOCKS)
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        self.root.join(UNFINISHED)
    }

    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    pub(super) fn size(&self, subject: &Subject, key: &Key) -> Result<Option<u64>, StorageError> {
        Ok(self.look(subject, key)?.map(|meta| meta.len()))
    }

    pub(super) fn open_object(&self, subject: &Subject, key: &Key) -> Result<(File, u64), StorageError> {
        self.look(subject, key)?.ok_or_else(|| subject.not_found())?;
        let open = || {
            let file = File::open(self.path(key))?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        open().map_err(|error| subject.of_io(error))
    }

    /// The object's file, if there is one; a symbolic link on the way is refused.
    fn look(&self, subject: &Subject, key: &Key) -> Result<Option<Metadata>, StorageError> {
        let mut path = self.root.clone();
        let mut found = None;
        for component in key.components() {
            path.push(component);
            match inspect(subject, &path)? {
                None => return Ok(None),
                Some(meta) => found = Some(meta),
            }
        }
        Ok(found.filter(Metadata::is_file))
    }

    /// Makes the folders above an object, and syncs those that gained one.
    pub(super) fn make_folders(&self, subject: &Subject, key: &Key) -> Result<(), StorageError> {
        let mut folder = self.root.clone();
        let mut components = key.components();
        components.next_back();
        for component in components {
            let above = folder.clone();
            folder.push(component);
            match inspect(subject, &folder)? {
                Some(meta) if meta.is_dir() => {}
                Some(_) => return Err(subject.of_io(io::ErrorKind::NotADirectory.into())),
                None => make_folder(&folder, &above).map_err(|error| subject.of_io(error))?,
            }
        }
        Ok(())
    }

    /// Removes the folders above an object that have become empty.
    pub(super) fn prune_folders(&self, key: &Key) {
        let path = self.path(key);
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    pub(super) fn list(&self, subject: &Subject, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = Vec::new();
        if !self.is_folder(subject, folder)? {
            return Ok(found);
        }
        let mut pending = vec![folder.to_owned()];
        while let Some(folder) = pending.pop() {
            for entry in self.entries(&folder).map_err(|error| subject.of_io(error))? {
                if entry.path.starts_with(prefix) {
                    entry.sort(&mut found, &mut pending);
                }
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// What lies directly below a prefix, in no order.
    pub(super) fn list_level(&self, subject: &Subject, prefix: &str) -> Result<Vec<Level>, StorageError> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !self.is_folder(subject, folder)? {
            return Ok(Vec::new());
        }
        let entries = self.entries(folder).map_err(|error| subject.of_io(error))?;
        let (mut objects, mut folders) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| entry.path.starts_with(prefix)) {
            entry.sort(&mut objects, &mut folders);
        }
        let folders = folders.into_iter().map(|path| Level::Folder(format!("{path}/")));
        Ok(objects.into_iter().map(Level::Object).chain(folders).collect())
    }

    fn is_folder(&self, subject: &Subject, folder: &str) -> Result<bool, StorageError> {
        if folder.is_empty() {
            return Ok(true);
        }
        let mut path = self.root.clone();
        for component in folder.split('/') {
            if check_component(component).is_err() {
                return Ok(false);
            }
            path.push(component);
            if !inspect(subject, &path)?.is_some_and(|meta| meta.is_dir()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The entries of a folder that may be objects or folders of objects; a folder that went away has none.
    fn entries(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let reader = match fs::read_dir(self.root.join(folder)) {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for entry in reader {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(RESERVED_PREFIX) {
                continue;
            }
            match entry.metadata() {
                Ok(meta) => entries.push(Entry::new(folder, &name, meta)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

/// A file or folder in the store, by its path below the root.
struct Entry {
    path: String,
    meta: Metadata,
}

impl Entry {
    fn new(folder: &str, name: &str, meta: Metadata) -> Self {
        let path = match folder {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        };
        Self { path, meta }
    }

    fn sort(self, found: &mut Vec<ObjectMeta>, pending: &mut Vec<String>) {
        let Ok(key) = Key::new(&self.path) else {
            return;
        };
        if self.meta.is_dir() {
            pending.push(self.path);
        } else if let (true, Ok(modified)) = (self.meta.is_file(), self.meta.modified()) {
            found.push(ObjectMeta {
                key,
                bytes: self.meta.len(),
                modified,
            });
        }
    }
}

fn inspect(subject: &Subject, path: &Path) -> Result<Option<Metadata>, StorageError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => Err(subject.denied("a symbolic link is in its way")),
        Ok(meta) => Ok(Some(meta)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(subject.of_io(error)),
    }
}

fn make_folder(folder: &Path, above: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(PRIVATE_FOLDER).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(above)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
