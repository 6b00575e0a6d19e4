//! The requests: batches, downloads, uploads and verifications.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use mayfly_git::remote::Remote;
use mayfly_http::{GuardedClient, HeaderValue, Request, Response, Url, header};
use mayfly_protocol::RepoUrl;
use mayfly_protocol::lfs::{LfsId, LfsPointer};
use mayfly_telemetry::task;
use serde_json::json;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::answer::{Action, Actions, Answer, Verdict};
use crate::{LfsError, LfsLimits};

/// The content type of the batch API, in both directions.
const LFS_JSON: HeaderValue = HeaderValue::from_static("application/vnd.git-lfs+json");
/// The content type of an upload for which the server names none.
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Bytes of an answer that is read only to be thrown away.
const MAX_IGNORED_BYTES: usize = 1 << 20;

/// The Git LFS server of one repository, for one job.
#[derive(Debug, Clone, Copy)]
pub struct LfsClient<'a> {
    client: &'a GuardedClient,
    remote: &'a Remote,
    limits: &'a LfsLimits,
    cancel: &'a CancellationToken,
}

/// An address from which a content can be fetched.
pub struct Download {
    pointer: LfsPointer,
    action: Action,
}

/// What a server wants for a content that it does not have.
pub struct Upload {
    pointer: LfsPointer,
    upload: Action,
    verify: Option<Action>,
}

impl Download {
    /// The content.
    pub fn pointer(&self) -> LfsPointer {
        self.pointer
    }
}

impl Upload {
    /// The content.
    pub fn pointer(&self) -> LfsPointer {
        self.pointer
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Download,
    Upload,
}

impl<'a> LfsClient<'a> {
    /// Makes a client; it sends nothing yet.
    pub fn new(
        client: &'a GuardedClient,
        remote: &'a Remote,
        limits: &'a LfsLimits,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            client,
            remote,
            limits,
            cancel,
        }
    }

    /// Asks where these contents can be fetched, each of them once; more than the limits allow are refused before anything is asked.
    pub async fn downloads(&self, wanted: &[LfsPointer], branch: &str) -> Result<Vec<Download>, LfsError> {
        let bytes = wanted
            .iter()
            .fold(0_u64, |sum, pointer| sum.saturating_add(pointer.bytes));
        self.check_limit("bytes", bytes, self.limits.max_bytes)?;
        self.check_count(wanted)?;
        let mut downloads = Vec::with_capacity(wanted.len());
        for batch in wanted.chunks(self.limits.max_batch) {
            for (pointer, actions) in self.batch(Operation::Download, batch, branch).await? {
                let action = actions
                    .download
                    .ok_or_else(|| self.wrong("it gives no address for an object that it has"))?;
                downloads.push(Download { pointer, action });
            }
        }
        Ok(downloads)
    }

    /// Asks which of these contents the server lacks, and where it wants them.
    pub async fn uploads(&self, offered: &[LfsPointer], branch: &str) -> Result<Vec<Upload>, LfsError> {
        self.check_count(offered)?;
        let mut uploads = Vec::new();
        for batch in offered.chunks(self.limits.max_batch) {
            for (pointer, actions) in self.batch(Operation::Upload, batch, branch).await? {
                let verify = actions.verify;
                uploads.extend(actions.upload.map(|upload| Upload {
                    pointer,
                    upload,
                    verify,
                }));
            }
        }
        Ok(uploads)
    }

    /// Fetches a content into a new file, and checks it while it arrives. The file is of no use after an error.
    pub async fn fetch(&self, download: &Download, to: &Path) -> Result<(), LfsError> {
        let Download { pointer, action } = download;
        let corrupt = |what| LfsError::Corrupt {
            url: self.url(),
            id: pointer.id,
            what,
        };
        let request = self.acting(Request::get(action.url.clone()), action);
        let mut response = self.send(request).await?;
        if response.status.as_u16() != 200 {
            return Err(self.status_of(&response, "a download"));
        }
        let path = to.to_owned();
        let mut file = task::blocking(move || File::create_new(path)).await?;
        let (mut hasher, mut received) = (Sha256::new(), 0_u64);
        while let Some(chunk) = response.chunk().await.map_err(|source| self.http(source))? {
            received = received.saturating_add(chunk.len() as u64);
            if received > pointer.bytes {
                return Err(corrupt("more bytes came"));
            }
            (file, hasher) = task::blocking(move || {
                hasher.update(&chunk);
                file.write_all(&chunk).map(|()| (file, hasher))
            })
            .await?;
        }
        if received < pointer.bytes {
            return Err(corrupt("fewer bytes came"));
        }
        match LfsId::from_bytes(hasher.finalize().into()) == pointer.id {
            true => Ok(()),
            false => Err(corrupt("its SHA-256 is another")),
        }
    }

    /// Sends a content, and has the server verify it where it asks for that.
    pub async fn send_content(&self, upload: &Upload, content: Bytes) -> Result<(), LfsError> {
        let mut request = self.acting(
            Request::new(mayfly_http::Method::PUT, upload.upload.url.clone()),
            &upload.upload,
        );
        if !upload.upload.headers.contains_key(header::CONTENT_TYPE) {
            request = request.header(header::CONTENT_TYPE, OCTETS);
        }
        self.expect_success(request.body(content), "an upload").await?;
        let Some(verify) = &upload.verify else {
            return Ok(());
        };
        let LfsPointer { id, bytes } = upload.pointer;
        let request = Request::post(verify.url.clone())
            .header(header::ACCEPT, LFS_JSON)
            .header(header::CONTENT_TYPE, LFS_JSON)
            .body(json!({ "oid": id, "size": bytes }).to_string().into_bytes());
        self.expect_success(self.acting(request, verify), "a verification")
            .await
    }

    async fn expect_success(&self, request: Request, what: &'static str) -> Result<(), LfsError> {
        let response = self.send(request).await?;
        if !response.status.is_success() {
            return Err(self.status_of(&response, what));
        }
        // Read to its end, so that the connection can be used again; what it says matters to nobody.
        let _ignored = response.bytes(MAX_IGNORED_BYTES).await;
        Ok(())
    }

    async fn batch(
        &self,
        operation: Operation,
        batch: &[LfsPointer],
        branch: &str,
    ) -> Result<Vec<(LfsPointer, Actions)>, LfsError> {
        let objects: Vec<_> = batch
            .iter()
            .map(|it| json!({ "oid": it.id, "size": it.bytes }))
            .collect();
        let name = match operation {
            Operation::Download => "download",
            Operation::Upload => "upload",
        };
        let body = json!({
            "operation": name,
            "transfers": ["basic"],
            "ref": { "name": branch },
            "objects": objects,
            "hash_algo": "sha256",
        });
        let request = Request::post(self.batch_url()?)
            .header(header::ACCEPT, LFS_JSON)
            .header(header::CONTENT_TYPE, LFS_JSON)
            .body(body.to_string().into_bytes());
        let response = self.send(self.authorised(request)).await?;
        if response.status.as_u16() != 200 {
            return Err(self.status_of(&response, "a batch"));
        }
        let body = response.bytes(self.limits.max_answer_bytes).await;
        let body = body.map_err(|source| self.http(source))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| self.wrong("its answer is not the JSON of the batch API"))?;
        let verdicts = answer.check(batch, OffsetDateTime::now_utc());
        let verdicts = verdicts.map_err(|what| self.wrong(what))?;
        let pairs = batch.iter().zip(verdicts);
        pairs
            .map(|(pointer, verdict)| Ok((*pointer, self.judge(pointer, verdict)?)))
            .collect()
    }

    fn judge(&self, pointer: &LfsPointer, verdict: Verdict) -> Result<Actions, LfsError> {
        let (url, id) = (self.url(), pointer.id);
        match verdict {
            Verdict::Transfer(actions) => Ok(*actions),
            Verdict::Error {
                status: 404 | 410,
                words,
            } => Err(LfsError::Missing { url, id, words }),
            Verdict::Error { status, words } => Err(LfsError::Refused {
                url,
                id,
                status,
                words,
            }),
        }
    }

    /// `…/repository.git/info/lfs/objects/batch`, whatever the repository's own files say.
    fn batch_url(&self) -> Result<Url, LfsError> {
        let text = format!("{}.git/info/lfs/objects/batch", self.remote.url.identity());
        text.parse().map_err(|_| self.wrong("its address cannot be made"))
    }

    /// The request with the headers of the action. At the repository's own origin, and there alone, the token goes along where the action brings none.
    fn acting(&self, request: Request, action: &Action) -> Request {
        let is_own = action.url.origin() == self.remote.url.as_url().origin();
        let request = match is_own && !action.headers.contains_key(header::AUTHORIZATION) {
            true => self.authorised(request),
            false => request,
        };
        let headers = action.headers.iter();
        headers.fold(request, |request, (name, value)| {
            request.header(name.clone(), value.clone())
        })
    }

    fn authorised(&self, request: Request) -> Request {
        let credential = self.remote.credential.as_ref();
        match credential.and_then(mayfly_git::remote::Credential::header) {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    async fn send(&self, request: Request) -> Result<Response, LfsError> {
        let sent = self.client.send(request, self.cancel).await;
        sent.map_err(|source| self.http(source))
    }

    fn status_of(&self, response: &Response, what: &'static str) -> LfsError {
        let after = response.headers.get(header::RETRY_AFTER);
        LfsError::Status {
            url: self.url(),
            what,
            status: response.status.as_u16(),
            retry_after: after.and_then(|value| value.to_str().ok()?.parse().ok()),
        }
    }

    fn url(&self) -> Box<RepoUrl> {
        Box::new(self.remote.url.clone())
    }

    fn check_count(&self, objects: &[LfsPointer]) -> Result<(), LfsError> {
        self.check_limit("objects", objects.len() as u64, self.limits.max_objects as u64)
    }

    fn check_limit(&self, what: &'static str, found: u64, max: u64) -> Result<(), LfsError> {
        let url = || self.url();
        (found <= max).then_some(()).ok_or_else(|| LfsError::TooLarge {
            url: url(),
            what,
            found,
            max,
        })
    }

    fn wrong(&self, what: &'static str) -> LfsError {
        LfsError::Protocol {
            url: self.url(),
            what,
        }
    }

    fn http(&self, source: mayfly_http::HttpError) -> LfsError {
        LfsError::Http {
            url: self.url(),
            source,
        }
    }
}
