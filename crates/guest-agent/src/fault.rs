//! The one error type of the agent: what failed, and why.
//!
//! Nothing in the guest acts on the kind of an error. It is told to the host, which destroys the microVM.

use std::error::Error;

/// What failed, as a lower-case fragment, and its cause.
#[derive(Debug)]
pub(crate) struct Fault {
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault without a deeper cause.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Adds what was being done to an error.
pub(crate) trait Doing<T> {
    /// The result, with `what` before the error.
    fn doing(self, what: impl Into<String>) -> Result<T, Fault>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Fault> {
        self.map_err(|error| Fault { what: what.into(), cause: Some(error.into()) })
    }
}

impl Error for Fault {}
