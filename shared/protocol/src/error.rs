//! The closed set of error codes, and the refusal that answers a request before a stream begins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a client should do with its own request after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same request fails again; something in it, or in what it names, has to change first.
    Never,
    /// The same request may be sent again as it is, and does no harm.
    Safe,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $retry:ident;)+) => {
        /// Why a request was refused or a job failed.
        ///
        /// Each code has an HTTP status (that of the refusal; a job's stream is always 200), a retry meaning, and a heading in `docs/errors.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The HTTP status of a refusal with this code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Whether the same request may be sent again.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)+ }
            }
        }
    };
}

error_codes! {
    /// A field is missing, malformed, unknown or against its rules.
    InvalidRequest = "invalid_request", 400, Never;
    /// No credential for Mayfly itself, or a wrong one.
    Unauthorized = "unauthorized", 401, Never;
    /// The credential for Mayfly does not allow this.
    Forbidden = "forbidden", 403, Never;
    /// No such route, job or worker.
    NotFound = "not_found", 404, Never;
    /// The route exists, with another method.
    MethodNotAllowed = "method_not_allowed", 405, Never;
    /// The body is larger than the limit.
    BodyTooLarge = "body_too_large", 413, Never;
    /// The body is not JSON by its content type, or is compressed.
    UnsupportedMediaType = "unsupported_media_type", 415, Never;
    /// The request did not arrive in time.
    RequestTimeout = "request_timeout", 408, Safe;
    /// Another job of this session is running.
    SessionBusy = "session_busy", 409, Safe;
    /// The session belongs to another repository.
    SessionRepoMismatch = "session_repo_mismatch", 409, Never;
    /// The idempotency key was used with another body.
    IdempotencyMismatch = "idempotency_mismatch", 409, Never;
    /// The worker has its job, or is about to exit; nothing was touched.
    WorkerBusy = "worker_busy", 429, Safe;
    /// The gateway's queue is full; nothing was touched.
    QueueFull = "queue_full", 429, Safe;
    /// Too many requests with this key; nothing was touched.
    RateLimited = "rate_limited", 429, Safe;
    /// The process is ending: it takes no job, or ended this one before it was done.
    ShuttingDown = "shutting_down", 503, Safe;
    /// The gateway knows no worker of the kind that the job needs.
    NoWorkers = "no_workers", 503, Safe;
    /// No worker became free within the time that a job may wait.
    QueueTimeout = "queue_timeout", 503, Safe;
    /// The worker fell silent or its connection broke before the terminal event.
    WorkerLost = "worker_lost", 502, Safe;
    /// The gateway that had accepted the job is gone, and no worker had begun it; nothing was touched.
    GatewayLost = "gateway_lost", 503, Safe;
    /// The worker answered with something other than the contract's stream.
    WorkerProtocol = "worker_protocol", 502, Safe;
    /// The job was cancelled.
    Cancelled = "cancelled", 409, Safe;
    /// The job took longer than a job may.
    DeadlineExceeded = "deadline_exceeded", 504, Safe;
    /// No executor for code operations is configured.
    NoExecutor = "no_executor", 501, Never;

    /// The session does not exist, and the request cannot make it.
    SessionNotFound = "session_not_found", 404, Never;
    /// Another job saved the session first; nothing of this one was saved.
    SessionConflict = "session_conflict", 409, Safe;
    /// The session's stored data is damaged, missing or of an unknown format.
    SessionDamaged = "session_damaged", 500, Never;
    /// The object storage cannot be reached, or answered with a server's error.
    StorageUnavailable = "storage_unavailable", 503, Safe;
    /// The object storage refuses the fleet's credentials.
    StorageDenied = "storage_denied", 500, Never;
    /// The worker's disk is full.
    DiskFull = "disk_full", 507, Safe;

    /// The remote's host may not be reached: not allowed by name, or a private, loopback, link-local or metadata address.
    HostRefused = "host_refused", 403, Never;
    /// The remote's host name does not resolve.
    HostUnknown = "host_unknown", 502, Safe;
    /// The remote's host refuses connections, or the connection broke.
    RemoteUnreachable = "remote_unreachable", 502, Safe;
    /// The remote's host accepted, and then sent nothing for too long.
    RemoteTimeout = "remote_timeout", 504, Safe;
    /// The remote's certificate is not trusted.
    TlsFailed = "tls_failed", 502, Never;
    /// The remote redirects to another origin; it is not followed, since it would carry the token there.
    RedirectRefused = "redirect_refused", 502, Never;
    /// The remote wants a credential, or does not take this one (401).
    AuthenticationFailed = "authentication_failed", 401, Never;
    /// The remote knows the credential, and refuses (403).
    AccessDenied = "access_denied", 403, Never;
    /// The remote has no such repository, or hides it from this credential (404).
    RepositoryNotFound = "repository_not_found", 404, Never;
    /// The remote asks to come back later (429).
    RemoteRateLimited = "remote_rate_limited", 503, Safe;
    /// The remote answered with a server's error (5xx).
    RemoteUnavailable = "remote_unavailable", 502, Safe;
    /// The remote does not speak git over HTTP.
    NotGit = "not_git", 502, Never;
    /// The remote speaks git wrongly: a bad pack, a missing object, a lie about its refs.
    RemoteProtocol = "remote_protocol", 502, Never;
    /// The repository uses something that is not supported, such as SHA-256 object ids.
    UnsupportedRepository = "unsupported_repository", 501, Never;
    /// The branch does not exist on the remote.
    BranchNotFound = "branch_not_found", 404, Never;
    /// The commit does not exist on the remote, or not on the branch.
    CommitNotFound = "commit_not_found", 404, Never;
    /// The branch exists on the remote already, or collides with one (`a` with `a/b`).
    BranchExists = "branch_exists", 409, Never;
    /// The session and the remote have both moved on; a fast-forward is not possible.
    NotFastForward = "not_fast_forward", 409, Never;
    /// A pull would overwrite uncommitted changes.
    PullConflict = "pull_conflict", 409, Never;
    /// The session has uncommitted changes that another base would overwrite.
    WorktreeDirty = "worktree_dirty", 409, Never;
    /// The remote refused the push: its words are in the error.
    PushRejected = "push_rejected", 409, Never;

    /// More bytes came from the remote than a repository may have.
    RepositoryTooLarge = "repository_too_large", 413, Never;
    /// The pack has more objects than one may.
    TooManyObjects = "too_many_objects", 413, Never;
    /// An object is larger than one may be.
    ObjectTooLarge = "object_too_large", 413, Never;
    /// The trees hold more entries than a workspace may.
    TreeTooLarge = "tree_too_large", 413, Never;
    /// A tree has a name, a mode or an order that is dangerous to check out.
    UnsafeTree = "unsafe_tree", 422, Never;
    /// The patch cannot be read.
    PatchInvalid = "patch_invalid", 400, Never;
    /// The patch, or a listed file, does not fit what the session holds.
    PatchConflict = "patch_conflict", 409, Never;
    /// A path leads out of the workspace, into `.git`, or through a link.
    PathRefused = "path_refused", 400, Never;
    /// The changes are larger than one job may make.
    ChangesTooLarge = "changes_too_large", 413, Never;
    /// The Git LFS contents to fetch are larger, or more, than one job may fetch.
    LfsTooLarge = "lfs_too_large", 413, Never;
    /// The remote's Git LFS server does not have a content that a pointer names.
    LfsObjectMissing = "lfs_object_missing", 404, Never;
    /// The remote has no Git LFS, or refuses a content: its words are in the error.
    LfsRefused = "lfs_refused", 502, Never;
    /// The remote's Git LFS server answers wrongly, or sends something other than what a pointer names.
    LfsProtocol = "lfs_protocol", 502, Never;
    /// A file that `.gitattributes` give to Git LFS was changed in a session without it.
    LfsNotEnabled = "lfs_not_enabled", 409, Never;

    /// A defect of Mayfly: the log has the details.
    Internal = "internal", 500, Safe;
}

impl ErrorCode {
    /// Whether `retryable` is true on the wire.
    pub fn is_retryable(self) -> bool {
        self.retry() == Retry::Safe
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to a request that is refused before a stream begins: `{"error":…,"code":…,"retryable":…}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// What is wrong, with which input, and what to do next.
    pub error: String,
    /// The reason, for programs.
    pub code: ErrorCode,
    /// Whether the same request may be sent again.
    pub retryable: bool,
    /// The field that is wrong, with `invalid_request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds to wait before the next try; the same number as in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal with the retry meaning of its code.
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            code,
            retryable: code.is_retryable(),
            field: None,
            retry_after: None,
        }
    }

    /// The same refusal, naming the field that is wrong.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same refusal, saying in how many seconds to come back.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_429_is_always_safe_to_repeat() {
        for code in ErrorCode::ALL.iter().filter(|code| code.status() == 429) {
            assert!(code.is_retryable(), "{code}");
        }
    }

    #[test]
    fn codes_are_distinct_and_read_back() {
        let mut seen = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()));
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), *code);
        }
    }

    #[test]
    fn a_refusal_on_the_wire() {
        let refusal = Refusal::new(ErrorCode::WorkerBusy, "this worker has its job").with_retry_after(1);
        insta::assert_json_snapshot!(refusal, @r#"
        {
          "error": "this worker has its job",
          "code": "worker_busy",
          "retryable": true,
          "retryAfter": 1
        }
        "#);
    }
}
