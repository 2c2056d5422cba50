//! `infra.operator selftest`: programs that attack, tried on this host.
//!
//! ```text
//! catalogue   what is tried: programs/*.{py,sh,c}, and catalogue.toml with how each has to end
//! trial       one program in a microVM of its own, and a calm one after it    ┐
//! clones      many microVMs of one snapshot at once: what they must not share ┘ know nothing of
//! judge       compares what came with what had to come                        ┐ each other
//! census      what of ours is on the host: before and after                   ┘
//! report      table and JSON
//! command     arguments, order of things, output
//! ```
//!
//! The programs in C are compiled with this crate (`build.rs`), linked with nothing: a guest needs no compiler.

mod catalogue;
mod census;
mod clones;
mod command;
mod judge;
mod report;
mod trial;

pub(crate) use command::SelftestArgs;
pub(super) use command::run;
