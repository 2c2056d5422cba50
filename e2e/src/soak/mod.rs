//! The service under a mixed load for long: does anything of it grow?
//!
//! ```text
//! load       callers that send all there is: runs, batches, streams, jobs, and programs and clients that misbehave
//! sample     what the service and its microVMs have at a moment
//! verdict    whether the samples are flat
//! ```

pub mod load;
pub mod sample;
pub mod verdict;

pub use load::{Callers, Done};
pub use sample::{Place, Sample};
pub use verdict::{Finding, judge};
