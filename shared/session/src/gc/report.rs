//! What a collection tells: a line for each thing, and the sums.

use serde::Serialize;

/// What kind of thing a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GcSubject {
    /// A session with all that is its own.
    Session,
    /// One object of a session.
    SessionObject,
    /// What is known of a repository is forgotten; its packs go later.
    KnownRepository,
    /// A pack of a repository is retired: no clone takes it up any more, and it goes later.
    RetiredPack,
    /// One object of a repository's packs.
    RepositoryObject,
    /// A content of Git LFS, or a list of contents.
    LfsObject,
    /// How a job ended.
    Outcome,
    /// An upload that was never finished.
    Upload,
    /// Something that is kept although it looks old, since it cannot be judged.
    Kept,
}

impl GcSubject {
    /// Whether bytes become free.
    pub fn is_removal(self) -> bool {
        match self {
            Self::Session
            | Self::SessionObject
            | Self::RepositoryObject
            | Self::LfsObject
            | Self::Outcome
            | Self::Upload => true,
            Self::KnownRepository | Self::RetiredPack | Self::Kept => false,
        }
    }
}

/// One thing that was, or would be, done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GcLine {
    /// What it is about.
    pub subject: GcSubject,
    /// Its key, or what the keys of all that goes with it begin with.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
    /// Why.
    pub reason: String,
    /// Why it was not done; the next collection tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The sums of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GcSummary {
    /// Sessions that were looked at.
    pub sessions_seen: u64,
    /// Sessions that were removed.
    pub sessions: u64,
    /// Objects by themselves that were removed.
    pub objects: u64,
    /// Bytes of all that was removed.
    pub bytes: u64,
    /// Packs that were retired, to be removed later.
    pub retired: u64,
    /// Things that could not be judged.
    pub kept: u64,
    /// Things that could not be done.
    pub failed: u64,
}

impl GcSummary {
    pub(super) fn count(&mut self, line: &GcLine) {
        if line.error.is_some() {
            self.failed += 1;
            return;
        }
        match line.subject {
            GcSubject::Session => self.sessions += 1,
            GcSubject::SessionObject
            | GcSubject::RepositoryObject
            | GcSubject::LfsObject
            | GcSubject::Outcome
            | GcSubject::Upload => self.objects += 1,
            GcSubject::RetiredPack => self.retired += 1,
            GcSubject::Kept => self.kept += 1,
            GcSubject::KnownRepository => {}
        }
        if line.subject.is_removal() {
            self.bytes += line.bytes;
        }
    }
}
