//! The bounds on what a request may hold. Each is checked where the request is parsed, before anything is claimed.

/// Bytes of a job's JSON body; a larger one is refused with `body_too_large` before it is read whole.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Characters of a session id.
pub const MAX_SESSION_ID_CHARS: usize = 128;
/// Bytes of a repository URL.
pub const MAX_REPO_URL_BYTES: usize = 2048;
/// Bytes of a branch name: `refs/heads/<name>.lock` must still fit a file name of 255 bytes.
pub const MAX_BRANCH_NAME_BYTES: usize = 200;
/// Bytes of the free text that asks for a branch or describes an operation.
pub const MAX_USER_REQUEST_BYTES: usize = 64 * 1024;
/// Bytes of a commit message that a caller gives.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of an author's name or e-mail address.
pub const MAX_IDENTITY_BYTES: usize = 256;
/// Bytes of a credential.
pub const MAX_SECRET_BYTES: usize = 16 * 1024;
/// Files in one `/apply-changes`.
pub const MAX_CHANGED_FILES: usize = 10_000;
/// Bytes of one path inside a repository (`PATH_MAX` less the terminator).
pub const MAX_PATH_BYTES: usize = 4095;
/// Bytes of one component of a path (`NAME_MAX`).
pub const MAX_PATH_COMPONENT_BYTES: usize = 255;
/// Components of one path.
pub const MAX_PATH_DEPTH: usize = 256;
/// The largest history depth that a clone may ask for.
pub const MAX_DEPTH: u32 = 1_000_000;
