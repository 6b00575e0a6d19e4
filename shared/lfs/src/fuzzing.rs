//! A door for fuzz targets to the parser of batch answers. It exists in builds for fuzzing only.

use mayfly_http::{HeaderMap, Url};
use mayfly_protocol::lfs::LfsPointer;
use time::OffsetDateTime;

use crate::answer::{Answer, Verdict};

/// Reads a batch answer, and gives the requests that it asks for; `None` where it is refused.
pub fn batch_requests(
    answer: &[u8],
    asked: &[LfsPointer],
    now: OffsetDateTime,
) -> Option<Vec<(Url, HeaderMap)>> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let verdicts = answer.check(asked, now).ok()?;
    assert_eq!(verdicts.len(), asked.len(), "one verdict for each content");
    let mut requests = Vec::new();
    for verdict in verdicts {
        if let Verdict::Transfer(actions) = verdict {
            let actions = [actions.download, actions.upload, actions.verify];
            requests.extend(actions.into_iter().flatten().map(|it| (it.url, it.headers)));
        }
    }
    Some(requests)
}
