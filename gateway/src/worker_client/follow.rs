//! Follows the job that a worker has, where another gateway sent it.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method, Request};
use mayfly_protocol::JobId;
use tokio::time::timeout;

use super::{WorkerClient, WorkerStream, judge_head, send, unsendable};
use crate::fleet::address::WorkerUrl;
use crate::retry::Outcome;

impl WorkerClient {
    /// The stream of the job after the worker's event of this number.
    pub(crate) async fn follow(
        &self,
        url: &WorkerUrl,
        job: &JobId,
        after: u64,
    ) -> Result<WorkerStream, Outcome> {
        let asked = timeout(self.response_timeout, self.ask_to_follow(url, job, after)).await;
        asked.unwrap_or_else(|_| Err(Outcome::NoAnswer("nothing came in time".to_owned())))
    }

    async fn ask_to_follow(&self, url: &WorkerUrl, job: &JobId, after: u64) -> Result<WorkerStream, Outcome> {
        let socket = self.connect(url).await?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = format!("/jobs/{job}/events").parse().map_err(unsendable)?;
        let headers = request.headers_mut();
        self.address(headers, url)?;
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(HeaderName::from_static("last-event-id"), HeaderValue::from(after));
        let (answer, body) = send(socket, request).await?;
        judge_head(&answer, body).await
    }
}
