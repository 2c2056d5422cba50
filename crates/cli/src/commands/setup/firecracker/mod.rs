//! Firecracker: which release is installed, from where, and how.
//!
//! ```text
//! download ─▶ digest ─▶ archive ─▶ stage ─▶ run --version ─▶ publish
//!                       or files ──┘                          (one rename)
//! ```
//!
//! Nothing is written before the digest is right, nothing is run before it is written whole, and nothing is
//! published before it has run. [`step`] decides whether any of it is to be done.

mod archive;
mod download;
mod files;
mod install;
mod release;
mod step;
mod version;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

pub(super) use step::{FirecrackerArgs, run};
