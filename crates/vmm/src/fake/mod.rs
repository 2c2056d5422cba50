//! A backend whose microVMs are tasks of this process: for tests of what lies above a VMM, and for measuring that.
//!
//! ```text
//! Fake ──start──▶ waiting ──load──▶ task ◀──UnixStream::pair──▶ whoever connects
//!   └─control()─▶ FakeControl: counts, failures to come, crashes
//! ```
//!
//! The guest agent of such a microVM speaks the protocol of this generation, but runs a language of its own ([`script`])
//! with which a test provokes whatever a guest can do. Nothing is isolated from anything, and no file is touched once a
//! snapshot has been looked at: a whole life takes some tens of microseconds of processor time.
//!
//! Behind the feature `fake`, which no release has.

mod backend;
mod control;
mod conversation;
mod guest;
mod machine;
pub mod script;
#[cfg(test)]
mod tests;

pub use backend::{Fake, FakeSettings};
pub use control::{Counts, FakeControl, Step};
