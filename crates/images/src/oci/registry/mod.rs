//! Images from a registry (OCI distribution specification; Docker's Registry HTTP API V2 and its token authentication).
//!
//! * `hosts`: which hosts stand for a registry, from the user's configuration of Docker, podman and skopeo.
//! * `credentials`: who the user is there, from `docker login` and its like.
//! * `client`: requests, with authentication, retries and bounds.
//! * `pace`: how slow a host may be.
//! * `layers`: layers into the cache, several at a time, going on where the last attempt ended.

mod challenge;
mod client;
mod credentials;
mod hosts;
mod layers;
mod pace;
mod pull;

pub use client::RequestError;
pub use credentials::{CredentialFiles, CredentialsError};
pub use hosts::{Host, HostFiles, HostsError, Mirror, Scheme};
pub use layers::{FetchLayerError, PARTIAL};
pub use pull::{PullError, RegistrySettings, lock_cache, pull};

/// Parses what a registry asks for, for `fuzz/`.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz_challenge(header: &str) {
    let _ = challenge::parse(header);
}
