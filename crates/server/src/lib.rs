//! The HTTP service: requests in, the engine's pool asked, answers out.
//!
//! ```text
//! connection ─▶ listen ─▶ routes/* ─▶ caller (who asks) ─▶ Pool::run ─▶ the page's JSON
//!               limits    parse       tokens, quotas       microVM
//! ```
//!
//! Nothing here knows a VMM or a command line, reads the environment or a configuration: what holds is given as
//! [`Settings`]. What a request may cost is the pool's to say, who may ask for it is said in [`tokens`]. Messages of errors
//! are the page's; causes go to the log alone.

mod administrator;
mod answers;
mod body;
mod caller;
mod compatible;
mod database;
mod error;
#[cfg(test)]
mod fake;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod head_deadline;
pub mod jobs;
mod keeper;
mod listen;
mod metrics;
mod openapi;
pub mod operations;
mod routes;
mod service;
mod settings;
pub mod tokens;
mod trace;
mod types;

pub use keeper::NoAnswer;
pub use listen::Listening;
pub use metrics::{Metrics, RequestTrace, Traces};
pub use openapi::document;
pub use service::Service;
pub use settings::{Compatible, Connections, PistonLimits, Policy, Settings};
pub use trace::ParentSpan;
