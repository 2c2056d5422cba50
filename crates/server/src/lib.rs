//! The HTTP service: requests in, the engine asked, answers out.
//!
//! Nothing here knows a VMM or a command line; what a request may cost is the engine's to say, who may ask for it is
//! said in [`tokens`].

pub mod tokens;
