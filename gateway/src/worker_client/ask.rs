//! Asks a worker whether it would take a job.

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;

use super::lines::KeptLine;
use super::{MAX_REFUSAL_BYTES, WorkerClient, send};
use crate::fleet::address::WorkerUrl;
use crate::retry::Outcome;

/// What `GET /status` of a worker says, as far as it matters here.
#[derive(Deserialize)]
struct Status {
    state: String,
}

/// What a worker says.
pub(crate) enum Said<'a> {
    /// It would take a job, at best on the connection that is kept for it.
    Idle(Option<KeptLine<'a>>),
    /// It would not.
    Busy,
}

impl WorkerClient {
    /// Asks the worker at this address whether it is idle.
    pub(crate) async fn ask_whether_idle(&self, url: &WorkerUrl) -> Result<Said<'_>, Outcome> {
        let asked = timeout(self.response_timeout, self.ask_status(url)).await;
        asked.unwrap_or_else(|_| Err(Outcome::NoAnswer("nothing came in time".to_owned())))
    }

    async fn ask_status(&self, url: &WorkerUrl) -> Result<Said<'_>, Outcome> {
        let socket = self.connect(url).await?;
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = http::Uri::from_static("/status");
        self.address(request.headers_mut(), url)?;
        let (answer, mut body) = send(socket, request).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE => return Err(Outcome::Unready),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Outcome::Unauthorized),
            status => return Err(Outcome::NotAStream(format!("status {}", status.as_u16()))),
        }
        let whole = body.whole(MAX_REFUSAL_BYTES).await;
        let whole =
            whole.ok_or_else(|| Outcome::NoAnswer("its status breaks off, or is too long".to_owned()))?;
        let status: Status = serde_json::from_slice(&whole)
            .map_err(|_| Outcome::NotAStream("something that is no worker's status".to_owned()))?;
        if status.state != "idle" {
            return Ok(Said::Busy);
        }
        let kept = body.into_line().and_then(|line| self.lines.keep(url, line));
        Ok(Said::Idle(kept))
    }
}
