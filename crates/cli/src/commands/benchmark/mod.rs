//! `infra.operator benchmark`: how long it all takes, beside the native interpreter.
//!
//! ```text
//! command    arguments, order of things, output
//! subjects   what is measured in microVMs            ┐ know nothing
//! programs   what is measured as programs of the host┘ of statistics
//! scratch    the data directory that snapshots are made in, so that the user's are left alone
//! sampling   takes samples in turns                  ┐ know nothing of microVMs:
//! statistics minimum, median, p99, ratios            │ they serve other comparisons as well
//! report     table and JSON                          ┘
//! ```

mod command;
mod programs;
mod report;
mod sampling;
mod scratch;
mod statistics;
mod subjects;

pub(crate) use command::BenchmarkArgs;
pub(super) use command::run;
