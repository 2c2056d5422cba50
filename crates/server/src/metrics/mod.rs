//! What the service counts and measures, for Prometheus.
//!
//! ```text
//! routes ──Recorded──▶ ┐
//! around ────────────▶ ├─ Metrics ──text──▶ GET /metrics
//! pool ───Observer───▶ ┘      ▲
//!                             └── gauges: the pool and the process, asked at each scrape
//! ```
//!
//! Labels are bounded: languages are those of the catalogue, routes are templates, codes are ours. Nothing that a client
//! can choose becomes one; its trace id stands in exemplars alone, of which each series keeps the last.

mod collectors;
#[cfg(test)]
mod documentation_tests;
mod families;
mod labels;
mod recorded;

pub use families::Metrics;
pub use recorded::{RequestTrace, Traces};

pub(crate) use families::HttpAnswered;
pub(crate) use recorded::{Recorded, micros};
