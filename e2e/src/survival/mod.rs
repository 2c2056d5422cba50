//! Jobs whose service is killed again and again while they come, run and are reported: is one lost, or reported twice?
//!
//! ```text
//! trial       callers that send jobs, each with its key, until it is accepted; and who kills the service meanwhile
//! receiver    takes the reports, and remembers in which life of the service each came
//! verdict     what is wrong about all of it
//! ```
//!
//! A report comes again where the service was killed after it was taken and before that was noted: nobody can know then.
//! It must be the same to the byte that matters, under the same id, and in another life of the service. Any other second
//! report is one too many.

pub mod receiver;
pub mod trial;
pub mod verdict;

pub use receiver::Receiver;
pub use trial::{Beside, Extent, Survived, fake_service, seed, survive};
pub use verdict::{Accepted, Facts, Report};
