//! Jobs: requests that are accepted now, run when there is room, and answered when somebody asks, or told when they end.
//!
//! ```text
//! routes ──accept──▶ Store: jobs.sqlite3 ◀──claim, finish── runners ──▶ Pool
//!    ▲ wait             │ one thread, one        │
//!    └──── changes ◀────┴── transaction a batch ─┴─ callback ──▶ whom the end is told
//! ```
//!
//! The file says what there is: what was answered with an id is in it, and so is what was told to anybody. A job's end and
//! that it is to be told are one transaction, conditional on the attempt that still holds, so it ends once, whatever dies
//! when. Callbacks are repeated only where nobody knows whether they were taken, under the same id.

mod addresses;
mod callback;
mod clock;
mod job;
mod ledger;
mod runners;
mod schema;
mod service;
mod settings;
mod store;
#[cfg(test)]
mod tests;

pub use addresses::{Network, ParseNetworkError};
pub use callback::{Lookup, ParseSecretError, SigningSecret, SystemLookup};
pub use service::{Jobs, signing_secret};
pub use settings::{JobSettings, StartJobsError};

pub(crate) use job::{IfInterrupted, Job, JobPage, JobState};
pub(crate) use ledger::{Counts, Filter, Key, Viewer};
pub(crate) use service::{AskError, Asked, Removed, Taken};
