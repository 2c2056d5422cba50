//! Names become addresses, and are judged as such: what a name led to before says nothing.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::jobs::addresses::{Network, may_reach};

/// Finds the addresses of names.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// Those that there are now.
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// As this host does.
#[derive(Debug)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A callback may not go there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is no public address: the operator may allow it by jobs.callback_networks")]
pub(crate) struct Forbidden {
    /// As the URL names it. What it leads to is for the operator alone: it says what there is behind this host.
    pub(in crate::jobs) host: String,
}

/// The client shows the causes of what a resolver says, but not that itself.
#[derive(Debug, thiserror::Error)]
#[error("the addresses were judged")]
struct Judged(#[source] Forbidden);

/// Gives none of a name's addresses if one of them is forbidden: whoever connects has no other to choose from.
pub(super) struct JudgingResolver {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) allowed: Arc<[Network]>,
}

impl Resolve for JudgingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, allowed) = (Arc::clone(&self.lookup), Arc::clone(&self.allowed));
        Box::pin(async move {
            let addresses = lookup.addresses(name.as_str()).await?;
            if !addresses.iter().all(|address| may_reach(*address, &allowed)) {
                let host = name.as_str().to_owned();
                return Err(Box::new(Judged(Forbidden { host })).into());
            }
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
