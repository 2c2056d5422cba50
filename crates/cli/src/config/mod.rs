//! The configuration: what every key may be, where its value comes from, and what the program gets of it.
//!
//! ```text
//! flags ─┐
//! environment ─┤ resolve ─▶ Resolution: a value and an origin for each key, and all faults
//! file ─┤                        │
//! table: defaults ─┘             ▼
//!                             Config: what the program reads
//! ```
//!
//! `table` is the one place that knows the keys. Checks, flags' help, `config show` and `docs/configuration.md` come from it.

mod checks;
mod fault;
mod file;
mod flags;
mod key;
mod reference;
mod reload;
mod resolve;
mod sections;
mod table;

pub(crate) use fault::{Fault, FaultRow, Origin, nearest};
pub(crate) use file::{Environment, Source};
pub(crate) use flags::{help, parser};
pub(crate) use key::Value;
pub(crate) use reference::{example, markdown};
#[cfg(feature = "fuzzing")]
pub(crate) use resolve::fuzz_resolve;
pub(crate) use resolve::{Entry, Resolution, resolve};
pub(crate) use sections::{Acceleration, Config, LogFormat, Pool, Storage, VmmName, WarmUp};
pub(crate) use table::SECTIONS;
