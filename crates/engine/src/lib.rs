//! Runs programs in microVMs, one request in one microVM.
//!
//! ```text
//! request ─▶ validate ─▶ slot ─▶ restore, or boot ─▶ handshake ─▶ run ─▶ answer
//! ```
//!
//! [`request`] and [`answer`] are what users say and get, [`Engine`] is what happens between. It is given a VMM and a
//! data directory; it reads neither environment nor configuration, and knows neither HTTP nor a command line. [`Pool`](pool::Pool) keeps microVMs
//! ready for a service that has many requests.

pub mod answer;
mod engine;
mod error;
mod execution;
mod expected;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod files;
pub mod guest_client;
mod in_use;
pub mod languages;
pub mod live;
pub mod pool;
pub mod request;
mod shortage;
mod slots;
mod snapshots;
mod text;
mod written;

pub use answer::{Answer, Exception, ExecutionAnswer, Failure};
pub use engine::{Engine, EngineSettings, ImageIdentity, Standby, Start};
pub use error::{CreateSnapshotError, Fate, NotPrepared, RunError, chain};
pub use execution::{Job, Outcome, Phases, Session};
pub use files::{Files, OmittedFile, ReturnedFile};
pub use languages::{LanguageSpec, Languages};
pub use request::{Request, RequestError};
pub use shortage::Shortage;
pub use slots::Room;
pub use snapshots::{SnapshotStatus, machine, size};
pub use text::Utf8;
