//! What is done with the file: each function is a part of a transaction, and says what it has found.
//!
//! No clock and no thread: `now` goes in, and who calls commits. Every change of a job's state is conditional on the state
//! that it leaves, so nothing that comes late undoes what is final.

mod accept;
mod callbacks;
mod look;
#[cfg(test)]
mod model_tests;
mod turns;

pub(super) use accept::{Acceptance, Bounds, NewJob, accept, known};
pub(crate) use accept::{Full, Key};
pub(super) use callbacks::{CallbackOutcome, DueCallback, due_callbacks, next_callback, settle_callback};
pub(crate) use look::{Counts, Filter, Viewer};
pub(super) use look::{counts, job, list, secret};
pub(super) use turns::{
    Cancelled, Claimed, End, Interruption, cancel, claim, finish, interrupt, is_present, next_turn, recover,
    requeue, shift, sweep,
};
