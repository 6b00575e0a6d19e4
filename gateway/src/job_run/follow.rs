//! The stream of the worker that took the job, up to its end or its loss.

use mayfly_protocol::{ErrorCode, Failure};
use tokio::time::timeout;

use crate::cancel;
use crate::fleet::address::WorkerUrl;
use crate::jobs::{End, JobWriter};
use crate::relay::{self, Numbers, RelayError, RelayLimits};
use crate::state::Gateway;
use crate::worker_client::WorkerStream;

/// How a worker's stream ended for the gateway.
pub(super) enum Followed {
    /// With its terminal event.
    Ended(End),
    /// The gateway ends the job.
    GivenUp(Failure),
    /// The gateway follows the job no longer.
    Stopped,
    /// Without a word.
    Lost(Loss),
}

/// A worker that was lost.
pub(super) struct Loss {
    /// What the job ends with if it is not repeated.
    pub(super) failure: Failure,
    /// The worker's events that the stream has.
    pub(super) relayed: u64,
}

/// Follows the stream to its end.
pub(super) async fn follow(
    gateway: &Gateway,
    url: &WorkerUrl,
    stream: &mut WorkerStream,
    writer: &JobWriter,
) -> Followed {
    let before = writer.job().log.size().events;
    let limits = RelayLimits {
        silence: gateway.config.silence_timeout,
        max_event_bytes: gateway.config.max_event_bytes,
    };
    let relaying = relay::relay(stream, limits, writer, Numbers::Next);
    let followed = timeout(gateway.config.job_timeout, relaying);
    let relayed: Result<End, RelayError> = tokio::select! {
        biased;
        followed = followed => match followed {
            Ok(relayed) => relayed.map(|(end, _)| end),
            Err(_) => return Followed::GivenUp(too_long(gateway)),
        },
        () = gateway.stopping.cancelled() => return Followed::Stopped,
        () = cancel::without_end(gateway, url, writer.job()) => {
            return Followed::GivenUp(cancel::unsettled(&gateway.config));
        }
    };
    match relayed {
        Ok(end) => Followed::Ended(end),
        Err(error) if error.is_loss() => Followed::Lost(Loss {
            failure: error.into(),
            relayed: writer.job().log.size().events.saturating_sub(before),
        }),
        Err(error) => Followed::GivenUp(error.into()),
    }
}

fn too_long(gateway: &Gateway) -> Failure {
    let seconds = gateway.config.job_timeout.as_secs_f32();
    let text =
        format!("the job took longer than the {seconds} s that a job may take, and is followed no longer");
    Failure::new(ErrorCode::DeadlineExceeded, text)
}
