//! Every address behind a name, looked up again and again.
//!
//! A lookup that fails leaves the last good answer in force: a resolver's hiccup is no reason to forget workers.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use crate::fleet::address::DnsName;
use crate::fleet::sources::{List, listed};

/// The waits of lookups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DnsSettings {
    pub(crate) refresh: Duration,
    pub(crate) timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error("the name does not resolve")]
    Failed(#[from] io::Error),
    #[error("the name has no address")]
    Empty,
    #[error("the resolver did not answer in time")]
    Late,
}

/// What the last lookups said.
#[derive(Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nothing,
    Failure,
    Addresses(BTreeSet<SocketAddr>),
}

/// Keeps a list at every address of a name, for as long as the future is polled.
pub(crate) async fn refresh(name: DnsName, settings: DnsSettings, list: List) {
    let mut known = Known::Nothing;
    loop {
        match lookup(&name, settings.timeout).await {
            Ok(found) => take(&name, found, &mut known, &list),
            Err(error) if known == Known::Nothing => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(
                    error,
                    "no worker found behind `{name}`; looking again every {:?}",
                    settings.refresh
                );
                known = Known::Failure;
                list.set(Vec::new(), false);
            }
            Err(error) => tracing::debug!(%error, "looking up `{name}` failed"),
        }
        sleep(settings.refresh).await;
    }
}

fn take(name: &DnsName, found: BTreeSet<SocketAddr>, known: &mut Known, list: &List) {
    let found = Known::Addresses(found);
    if *known == found {
        return;
    }
    if let Known::Addresses(addresses) = &found {
        tracing::info!(workers = addresses.len(), "the workers behind `{name}` changed");
        let members = addresses.iter().map(|address| listed(name.at(*address)));
        list.set(members.collect(), true);
    }
    *known = found;
}

async fn lookup(name: &DnsName, patience: Duration) -> Result<BTreeSet<SocketAddr>, LookupError> {
    let found = timeout(patience, lookup_host((name.name.as_str(), name.port))).await;
    let addresses: BTreeSet<SocketAddr> = found.map_err(|_| LookupError::Late)??.collect();
    match addresses.is_empty() {
        true => Err(LookupError::Empty),
        false => Ok(addresses),
    }
}
