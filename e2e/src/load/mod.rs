//! Load on the service, over HTTP as its callers bring it, and what it is measured by.
//!
//! ```text
//! service         the product's own program, started and ended
//! client          one connection that is kept alive      status      its pools, as it tells them
//! programs        what it is asked, and whether an answer is the one to it
//! one_at_a_time   Hello World from a full pool, in turns with the host's Python
//! idle            connections on which nothing happens
//! burst           many requests at once
//! sustained       callers that never rest
//! streaming       output as it is written
//! own_share       what is ours of a request, where microVMs cost nothing
//! report          the table
//! ```
//!
//! Each measurement takes an address, so that it can be tried on any server that speaks like the service.

pub mod burst;
pub mod client;
pub mod events;
pub mod idle;
pub mod in_process;
pub mod one_at_a_time;
pub mod own_share;
pub mod programs;
pub mod report;
pub mod service;
pub mod status;
pub mod streaming;
pub mod sustained;
#[cfg(test)]
mod tests;
