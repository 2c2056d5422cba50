//! The pool: restored microVMs that wait for requests, and requests that wait for microVMs.
//!
//! ```text
//! run ──▶ State ──Hand──▶ a microVM that waits, used once
//!           │ ▲
//!    Start, │ │ Started, Rehearsed, Failed, Gone
//! Rehearse, ▼ │
//!   End    driver ──▶ Engine
//! ```
//!
//! `state` decides everything and does nothing: events and the time go in, commands come out. `driver` does what it
//! says, decides nothing, and is what the rest of the program sees as [`Pool`]. `queue` is who is next; `estimate`
//! is what can be expected of the time to come.

mod driver;
mod estimate;
#[cfg(test)]
mod hostile_tests;
mod limits;
#[cfg(test)]
mod model_tests;
mod queue;
mod snapshots;
mod state;

pub use driver::{Admission, Discard, Observer, Pool, PoolError, Unobserved};
pub use limits::PoolLimits;
pub use queue::Tenant;
pub use state::{KindStatus, PoolKey, PoolStatus, Refusal};
