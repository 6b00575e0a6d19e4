//! Resolves names, and lets only addresses through that may be reached. It runs for each connection, on the addresses that it then uses.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_public;

/// A name resolves, but only to addresses that may not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to private addresses only")]
pub(crate) struct OnlyPrivate;

/// A name has no address at all.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address")]
struct NoAddress;

/// The resolver of the system, with its answers filtered.
pub(crate) struct GuardedResolver {
    pub(crate) allow_private: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() {
                return Err(NoAddress.into());
            }
            let kept = keep_reachable(found, allow_private);
            if kept.is_empty() {
                return Err(OnlyPrivate.into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// Whether a connection to the address may be made.
pub(crate) fn may_reach(address: IpAddr, allow_private: bool) -> bool {
    allow_private || is_public(address)
}

fn keep_reachable(found: Vec<SocketAddr>, allow_private: bool) -> Vec<SocketAddr> {
    found
        .into_iter()
        .filter(|address| may_reach(address.ip(), allow_private))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn of_a_mixed_answer_only_the_public_addresses_are_kept() {
        let mixed = addresses(&[
            "127.0.0.1:0",
            "8.8.8.8:0",
            "[::1]:0",
            "10.0.0.1:0",
            "[2606:4700::1111]:0",
        ]);
        let public = addresses(&["8.8.8.8:0", "[2606:4700::1111]:0"]);
        assert_eq!(keep_reachable(mixed.clone(), false), public);
        assert_eq!(keep_reachable(mixed.clone(), true), mixed);
        assert!(keep_reachable(addresses(&["169.254.169.254:0", "[fd00::1]:0"]), false).is_empty());
    }
}
