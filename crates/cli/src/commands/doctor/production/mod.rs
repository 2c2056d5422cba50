//! What a host needs before tenants who do not trust each other may share it.
//!
//! The list is that of Firecracker's `docs/prod-host-setup.md` and `docs/kernel-policy.md`, as far as it is about the
//! host and can be measured there. [`facts`] reads, beneath any directory, so that tests can make hosts up;
//! [`processor`], [`memory`] and [`kernel`] judge; [`verdict`] puts them together, and asks first whether they
//! matter here.
//!
//! Nothing of this keeps a program from running, so nothing is worse than a warning. What cannot be read is a
//! warning too, and says that it is unknown.

mod facts;
#[cfg(test)]
mod fake;
mod kernel;
mod memory;
mod processor;
mod verdict;

pub(super) use self::{
    facts::ProductionFacts,
    verdict::{findings, matters},
};
