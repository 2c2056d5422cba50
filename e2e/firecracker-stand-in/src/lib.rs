//! What Firecracker's API takes, and in which order.
//!
//! [`description`] holds the requests that we send, with every field, type and bound, and reads the same from the
//! description that Firecracker publishes, so that the two can be compared. [`api`] judges requests as a Firecracker
//! would. The program of this crate stands in for a whole Firecracker, and for its jailer: see there.

pub mod api;
pub mod description;
