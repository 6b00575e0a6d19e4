//! Pushes one ref: tells the remote the old value that it must still have, the new one, and sends a pack made by the caller.
//!
//! The protocol (gitprotocol-pack(5), "Pushing Data To a Server") has no force: a remote whose ref is not at the old value refuses.
//! This module must not know how the pack is made, nor why the ref moves.

use bytes::Bytes;
use mayfly_http::{Body, GuardedClient};
use mayfly_protocol::{BranchName, ObjectId};
use tokio_util::sync::CancellationToken;

use crate::refs::advertisement::{Advertisement, Reader};
use crate::refs::{Greeting, RemoteRefs};
use crate::remote::exchange::{Exchange, Service};
use crate::remote::packet::PacketWriter;
use crate::remote::{AGENT, Remote, RemoteError, TransferLimits};

mod error;
pub(crate) mod report;

use report::Outcome;

pub use error::PushError;

/// One ref that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The full name, `refs/heads/…` or `refs/tags/…`.
    pub name: String,
    /// The value that the remote must have; `None` if it must not have the ref.
    pub old: Option<ObjectId>,
    /// The value that it gets.
    pub new: ObjectId,
}

/// A remote that has listed its refs, and may be pushed to once.
pub struct SendPack {
    exchange: Exchange,
    greeting: Greeting,
}

impl SendPack {
    /// Asks the remote for its refs, and with that whether the credential may push.
    pub async fn connect(
        client: &GuardedClient,
        remote: &Remote,
        limits: &TransferLimits,
        cancel: &CancellationToken,
    ) -> Result<Self, PushError> {
        let mut exchange = Exchange::new(client, remote, Service::ReceivePack, limits, cancel);
        let packets = exchange.advertisement().await?.rest().await?;
        let unsupported = |what| {
            let url = remote.url.clone();
            PushError::from(RemoteError::Unsupported { url, what })
        };
        let greeting = match Reader::new(remote, limits).advertisement(&packets)? {
            Advertisement::V0(greeting) => greeting,
            Advertisement::V2(_) => return Err(unsupported("takes pushes by protocol 2 only")),
        };
        if !greeting.capabilities.has("report-status") {
            return Err(unsupported(
                "does not report what becomes of a push (no `report-status`)",
            ));
        }
        Ok(Self { exchange, greeting })
    }

    /// The branches and tags of the remote. Its HEAD is not told to pushers.
    pub fn refs(&self) -> &RemoteRefs {
        &self.greeting.refs
    }

    /// Moves the ref, sending a complete pack with what the remote lacks ([`empty_pack`] if it lacks nothing).
    ///
    /// Nothing is sent if the remote has already listed another value than the old one.
    pub async fn push(
        self,
        update: &RefUpdate,
        pack: Bytes,
        cancel: &CancellationToken,
    ) -> Result<(), PushError> {
        check_name(&update.name)?;
        let actual = self.greeting.refs.refs.get(&update.name).copied();
        if actual != update.old {
            return Err(PushError::Stale {
                reference: update.name.clone(),
                expected: update.old,
                actual,
            });
        }
        let body = Body::from_iter([self.command(update), pack]);
        let exchange = self.exchange.cancelled_by(cancel);
        let sent = exchange
            .post(body, false)
            .await
            .map_err(PushError::after_sending)?;
        let has_side_band = self.greeting.capabilities.has("side-band-64k");
        let outcome = report::read(sent.preparing(), has_side_band).await?;
        decide(outcome, &update.name)
    }

    /// The command with our capabilities, and the flush that ends the commands.
    fn command(&self, update: &RefUpdate) -> Bytes {
        let offered = &self.greeting.capabilities;
        let wanted = [
            ("report-status", "report-status"),
            ("side-band-64k", "side-band-64k"),
            ("quiet", "quiet"),
            ("object-format", "object-format=sha1"),
            ("agent", AGENT),
        ];
        let features: Vec<&str> = wanted
            .iter()
            .filter(|(name, _)| offered.has(name))
            .map(|(_, feature)| *feature)
            .collect();
        let old = update.old.unwrap_or(ObjectId::ZERO);
        let (new, name) = (update.new, &update.name);
        PacketWriter::default()
            .line(&format!("{old} {new} {name}\0{}", features.join(" ")))
            .flush()
            .take()
    }
}

/// A name goes into a line of the protocol, where a space, a NUL or a line feed would end it.
fn check_name(name: &str) -> Result<(), PushError> {
    let short = name
        .strip_prefix("refs/heads/")
        .or_else(|| name.strip_prefix("refs/tags/"));
    match short.map(str::parse::<BranchName>) {
        Some(Ok(_)) => Ok(()),
        _ => Err(PushError::BadName),
    }
}

/// What became of the push, by the remote's report. Pure.
fn decide(outcome: Outcome, name: &str) -> Result<(), PushError> {
    let reference = name.to_owned();
    let server_words = outcome.words.clone();
    let rejected = |reason: String| PushError::Rejected {
        reference: reference.clone(),
        reason,
        server_words: server_words.clone(),
    };
    if let Some(reason) = outcome.fatal {
        return Err(rejected(reason));
    }
    match outcome.unpack.as_deref() {
        Some("ok") => {}
        Some(fault) => return Err(rejected(format!("the pack was not taken: {fault}"))),
        None => return Err(PushError::answer_lost()),
    }
    match outcome.refs.iter().find(|(named, _)| named == name) {
        Some((_, None)) => Ok(()),
        Some((_, Some(reason))) if says_moved(reason) => Err(PushError::NotFastForward {
            reason: reason.clone(),
            server_words: server_words.clone(),
            reference,
        }),
        Some((_, Some(reason))) => Err(rejected(reason.clone())),
        None => Err(PushError::answer_lost()),
    }
}

/// Whether a refusal means that the ref is not where it was expected to be.
///
/// Sources: receive-pack.c, refs/files-backend.c and transport.c of git; JGit's `ReceiveCommand.Result`; libgit2's push.
fn says_moved(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    [
        "non-fast-forward",
        "non-fast forward",
        "fast-forward",
        "fetch first",
        "stale info",
        "failed to update ref",
        "failed to lock",
        "cannot lock",
        "already exists",
        "incorrect old value",
    ]
    .iter()
    .any(|known| reason.contains(known))
}

/// A pack without objects, for a ref that moves to what the remote already has.
pub fn empty_pack() -> Bytes {
    Bytes::from_static(
        b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e",
    )
}

#[cfg(test)]
mod tests {
    use mayfly_protocol::ErrorCode;

    use super::*;

    const NAME: &str = "refs/heads/x";

    fn code(outcome: Outcome) -> Option<ErrorCode> {
        decide(outcome, NAME).err().map(|error| error.code())
    }

    fn reported(reason: Option<&str>) -> Outcome {
        Outcome {
            unpack: Some("ok".to_owned()),
            refs: vec![(NAME.to_owned(), reason.map(str::to_owned))],
            ..Outcome::default()
        }
    }

    #[test]
    fn reports_are_told_apart() {
        assert_eq!(code(reported(None)), None);
        for reason in [
            "non-fast-forward",
            "fetch first",
            "stale info",
            "failed to update ref",
            "already exists",
        ] {
            assert_eq!(
                code(reported(Some(reason))),
                Some(ErrorCode::NotFastForward),
                "{reason}"
            );
        }
        for reason in [
            "pre-receive hook declined",
            "shallow update not allowed",
            "branch is currently checked out",
        ] {
            assert_eq!(
                code(reported(Some(reason))),
                Some(ErrorCode::PushRejected),
                "{reason}"
            );
        }
        let unpack = Outcome {
            unpack: Some("index-pack abnormal exit".to_owned()),
            ..reported(None)
        };
        assert_eq!(code(unpack), Some(ErrorCode::PushRejected));
        let fatal = Outcome {
            fatal: Some("out of memory".to_owned()),
            ..Outcome::default()
        };
        assert_eq!(code(fatal), Some(ErrorCode::PushRejected));
        let about_another = Outcome {
            refs: vec![("refs/heads/y".to_owned(), None)],
            ..reported(None)
        };
        for silent in [Outcome::default(), about_another] {
            assert_eq!(code(silent), Some(ErrorCode::RemoteUnreachable));
        }
    }

    #[test]
    fn names_that_could_end_a_line_are_refused() {
        for bad in [
            "refs/heads/a b",
            "refs/heads/a\0x",
            "refs/heads/a\nb",
            "HEAD",
            "refs/heads/",
            "refs/x/y",
            "main",
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name(NAME).is_ok() && check_name("refs/tags/v1").is_ok());
    }
}
