//! Tells a worker to cancel the job that it has.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use mayfly_protocol::JobId;
use tokio::time::timeout;

use super::{WorkerClient, read_refusal, send, unsendable};
use crate::fleet::address::WorkerUrl;
use crate::retry::Outcome;

impl WorkerClient {
    /// Asks the worker to cancel this job; it may be asked again, and another job is not touched.
    pub(crate) async fn cancel(&self, url: &WorkerUrl, job: &JobId) -> Result<(), Outcome> {
        let asked = timeout(self.response_timeout, self.ask_to_cancel(url, job)).await;
        asked.unwrap_or_else(|_| Err(Outcome::NoAnswer("nothing came in time".to_owned())))
    }

    async fn ask_to_cancel(&self, url: &WorkerUrl, job: &JobId) -> Result<(), Outcome> {
        let socket = self.connect(url).await?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("/jobs/{job}/cancel").parse().map_err(unsendable)?;
        self.address(request.headers_mut(), url)?;
        let (answer, body) = send(socket, request).await?;
        let status = answer.status();
        match status {
            StatusCode::ACCEPTED => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Outcome::Unauthorized),
            _ => Err(match read_refusal(status, body).await {
                Some(refusal) => Outcome::Refused(refusal),
                None => Outcome::NotAStream(format!("status {}", status.as_u16())),
            }),
        }
    }
}
