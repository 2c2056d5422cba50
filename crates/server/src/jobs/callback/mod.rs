//! How the end of a job is told: signed, to where it may go, until it is taken or given up.
//!
//! ```text
//! Ledger: due ──▶ delivery ──▶ sender ──▶ resolver: every answer judged ──▶ POST
//!    ▲               │           └── redirect: judged as the first address was
//!    └── delivered, due again, given up
//! ```

mod delivery;
mod resolver;
mod sender;
#[cfg(test)]
mod sender_tests;
mod signature;

pub(super) use delivery::Deliveries;
pub use resolver::{Lookup, SystemLookup};
pub(super) use sender::{Sender, SenderError};
pub use signature::{ParseSecretError, SigningSecret};
