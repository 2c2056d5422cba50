//! Gets a file by HTTP into memory. Whatever the server does, this ends: every length and every wait is bounded.

use std::{io::Read as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use images::Progress;
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig, TlsProvider},
};

/// From the archive's host to the one that stores it takes one redirection; mirrors may have a few more.
const MAX_REDIRECTS: u32 = 5;

/// Progress is shown in steps of this size.
const CHUNK_BYTES: usize = 64 << 10;

/// How long is waited for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until it has a name and a connection.
    pub(super) connect: Duration,
    /// Until it sends more, whatever it is about to send.
    pub(super) progress: Duration,
    /// Until all is there.
    pub(super) all: Duration,
}

/// Downloads what is at `url`: at most `limit` bytes. Where `url` has TLS, so has all that it redirects to.
pub(super) fn download(
    url: &str,
    limit: u64,
    patience: &Patience,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<u8>> {
    fetch(url, limit, patience, &**progress).with_context(|| format!("cannot download {}", shown(url)))
}

fn fetch(url: &str, limit: u64, patience: &Patience, progress: &dyn Progress) -> Result<Vec<u8>> {
    let agent = agent(url, patience);
    let mut response = agent.get(url).call()?;
    let announced = response.body().content_length();
    if announced.is_some_and(|announced| announced > limit) {
        bail!("it is larger than {limit} bytes");
    }
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader().take(limit + 1);
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count =
            body.read(&mut chunk).with_context(|| format!("it broke off after {} bytes", bytes.len()))?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..count]);
        progress.bytes(bytes.len() as u64, announced);
    }
    ensure!(bytes.len() as u64 <= limit, "it is larger than {limit} bytes");
    Ok(bytes)
}

fn agent(url: &str, patience: &Patience) -> Agent {
    // Fails where there is a provider already, which then is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The certificates that this host's administrator trusts, as apt and curl do.
    let tls =
        TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(RootCerts::PlatformVerifier).build();
    Agent::config_builder()
        .tls_config(tls)
        .https_only(url.starts_with("https:"))
        .max_redirects(MAX_REDIRECTS)
        .user_agent(concat!("infra.operator/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.progress))
        .timeout_per_write(Some(patience.progress))
        .timeout_global(Some(patience.all))
        .build()
        .into()
}

/// A URL as it may be shown: without what may be a password or a token.
pub(super) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The host of a URL.
pub(super) fn host(url: &str) -> String {
    shown(url).split('/').nth(2).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_not_shown() {
        let url = "https://user:p@ss@mirror.example:8443/f/firecracker.tgz?token=secret#x";
        assert_eq!(shown(url), "https://mirror.example:8443/f/firecracker.tgz");
        assert_eq!(host(url), "mirror.example:8443");
        assert_eq!(shown("http://mirror.example?token=secret"), "http://mirror.example");
    }
}
