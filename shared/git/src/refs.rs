//! The branches and tags of a remote, and the branch that its HEAD names.

use std::collections::BTreeMap;

use mayfly_http::GuardedClient;
use mayfly_protocol::{BranchName, CommitId, ObjectId};
use tokio_util::sync::CancellationToken;

use crate::fetch::FetchError;
use crate::remote::capability::Capabilities;
use crate::remote::exchange::{Exchange, Service};
use crate::remote::packet::PacketWriter;
use crate::remote::{AGENT, Remote, RemoteError, TransferLimits};

pub(crate) mod advertisement;

use advertisement::Advertisement;

/// What a remote lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteRefs {
    /// The branch that HEAD names, also if it has no commit yet. A remote that only gives the commit of HEAD gets a guess: `main`,
    /// `master`, or the first branch at that commit.
    pub head: Option<BranchName>,
    /// The branches and tags by full name (`refs/heads/…`, `refs/tags/…`), with the object that each names: of an annotated tag
    /// the tag, not its commit. Names that are not UTF-8, or against git's rules, are left out.
    pub refs: BTreeMap<String, ObjectId>,
}

impl RemoteRefs {
    /// The commit of a branch.
    pub fn branch(&self, name: &BranchName) -> Option<CommitId> {
        self.refs.get(&name.to_ref()).copied()
    }

    /// The branches, in order.
    pub fn branch_names(&self) -> impl Iterator<Item = &str> {
        self.refs
            .keys()
            .filter_map(|name| name.strip_prefix("refs/heads/"))
    }
}

/// Asks a remote for its branches and tags.
pub async fn ls_refs(
    client: &GuardedClient,
    remote: &Remote,
    limits: &TransferLimits,
    cancel: &CancellationToken,
) -> Result<RemoteRefs, FetchError> {
    let mut exchange = Exchange::new(client, remote, Service::UploadPack, limits, cancel);
    Ok(greet(&mut exchange).await?.refs)
}

/// What is known of a remote after the first words with it.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) is_v2: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) refs: RemoteRefs,
    /// The boundary of a remote that is shallow itself; v2 tells it with the pack.
    pub(crate) shallow: Vec<CommitId>,
}

/// Reads the advertisement, and with protocol v2 asks for the refs.
pub(crate) async fn greet(exchange: &mut Exchange) -> Result<Greeting, RemoteError> {
    let packets = exchange.advertisement().await?.rest().await?;
    let reader = advertisement::Reader::new(exchange.remote(), exchange.limits());
    match reader.advertisement(&packets)? {
        Advertisement::V2(capabilities) => {
            let packets = exchange
                .post(ls_refs_request(&capabilities), true)
                .await?
                .rest()
                .await?;
            Ok(Greeting {
                is_v2: true,
                refs: reader.v2_refs(&packets)?,
                capabilities,
                shallow: Vec::new(),
            })
        }
        Advertisement::V0(greeting) => Ok(greeting),
    }
}

/// Source: gitprotocol-v2(5), "ls-refs".
fn ls_refs_request(capabilities: &Capabilities) -> bytes::Bytes {
    let mut request = PacketWriter::default();
    request.line("command=ls-refs").line(AGENT);
    if capabilities.has("object-format") {
        request.line("object-format=sha1");
    }
    request.delimiter().line("symrefs");
    if capabilities.command_has("ls-refs", "unborn") {
        request.line("unborn");
    }
    for prefix in ["HEAD", "refs/heads/", "refs/tags/"] {
        request.line(&format!("ref-prefix {prefix}"));
    }
    request.flush().take()
}
