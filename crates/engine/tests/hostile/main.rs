//! A guest agent in a program's hands: whatever it says, and whenever it falls silent, the host comes to an end within its
//! deadline, keeps no more than it asked for, and takes nothing for an answer that is none.
//!
//! The clock stands still while something is said, and leaps to the next deadline when nothing is: patience costs no time.
//! Where an agent never stops speaking it does not leap, and the deadlines are short.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test's way to fail, in helpers too")]

mod agent;
mod endless;
mod phase;
mod refused;
