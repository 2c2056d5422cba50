//! APIs of others over the same core: for clients that people have already.
//!
//! ```text
//! their request ─▶ piston, sandbox_fusion ─▶ engine::Request ─▶ the way of every request ─▶ their answer
//! ```
//!
//! Who asks, what is allowed, how much, and what runs is decided as for requests of our own.

pub(crate) mod piston;
pub(crate) mod sandbox_fusion;
mod versions;

pub(crate) use self::versions::{Runtime, Versions};
