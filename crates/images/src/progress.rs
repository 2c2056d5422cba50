//! How long operations tell what they are doing. Rendering it is the caller's business.

/// Receives the progress of an operation that may take longer than a second.
pub trait Progress: Send + Sync {
    /// A new step has begun. `message` is a lower-case fragment, as in `downloading linux-image-cloud-amd64`.
    fn step(&self, message: &str);

    /// `done` bytes of the current step are done, of `total` where that is known.
    fn bytes(&self, done: u64, total: Option<u64>);

    /// Whether the user wants the operation to end. One that can take long asks now and then, and fails.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Ignores all progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _message: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}
