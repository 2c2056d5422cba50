//! `infra.operator top`: what a service does, live in a terminal, or once as text or JSON.
//!
//! ```text
//! command      arguments; fetches again and again, and waits for keys
//! fetch        gets `/metrics` of a service
//! open_metrics reads that text                       ┐ know nothing of
//! view         what it says, and what changed since  │ terminals
//! tables       the same in rows                      ┘
//! screen       the rows in a terminal
//! ```

mod command;
mod fetch;
mod open_metrics;
mod screen;
mod tables;
mod view;

pub(crate) use command::TopArgs;
pub(super) use command::run;
