//! `infra.operator reference`: the pages of `docs/` that are written by the code, hidden from those who only use it.
//!
//! [`commands`] writes `docs/commands.md` from the definition of the command line, [`endpoints`] and [`shapes`] write
//! `docs/endpoints.md` from the `OpenAPI` document, [`example`] makes up what stands in it as examples. The page of the
//! configuration is written by [`crate::config`].

mod command;
mod commands;
mod endpoints;
mod example;
mod markdown;
mod shapes;

pub(super) use self::command::{ReferenceArgs, run};
