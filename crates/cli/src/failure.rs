//! How commands fail: what is printed, and the exit status.

use std::process::ExitCode;

use crate::settings::Global;

/// Answered, or done.
pub(crate) const DONE: u8 = 0;
/// The command line or the request is wrong. clap uses the same.
pub(crate) const USAGE: u8 = 2;
/// This host cannot do what was asked.
pub(crate) const HOST: u8 = 3;

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// This host cannot do it.
    pub(crate) fn host(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), hint: None, code: HOST }
    }

    /// The user asked for something that cannot be.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), hint: None, code: USAGE }
    }

    /// Adds what the user can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same with its hint as it is to be typed.
    pub(crate) fn typed(mut self, global: &Global) -> Self {
        self.hint = self.hint.map(|hint| global.typed(&hint));
        self
    }

    /// Prints the error with its causes and the hint, to stderr, and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        self.print("error");
        ExitCode::from(self.code)
    }

    /// Prints it where the command goes on without.
    pub(crate) fn warn(&self) {
        self.print("warning");
    }

    fn print(&self, what: &str) {
        crate::output::say!("{what}: {:#}", self.error);
        if let Some(hint) = &self.hint {
            crate::output::say!("hint: {hint}");
        }
    }
}

/// Errors that know what the user can do about them.
pub(crate) trait OrFail<T> {
    /// As a failure of this host.
    fn or_fail(self) -> Result<T, Failure>;
}

macro_rules! with_hint {
    ($($error:ty),* $(,)?) => {$(
        impl<T> OrFail<T> for Result<T, $error> {
            fn or_fail(self) -> Result<T, Failure> {
                self.map_err(|error| {
                    let hint = error.hint();
                    Failure::host(error).hint(hint)
                })
            }
        }
    )*};
}

with_hint!(
    engine::CreateSnapshotError,
    engine::RunError,
    images::OpenKernelError,
    store::garbage::GarbageError,
    images::oci::CreateFromImageError,
    images::oci::OpenImageError,
    images::oci::registry::PullError,
    images::PrepareKernelError,
    images::rootfs::CreateRootfsError,
    images::rootfs::CustomizeRootfsError,
    images::rootfs::InspectImageError,
    images::rootfs::ListRootfsError,
    images::rootfs::MapPackagesError,
    server::jobs::StartJobsError,
    server::tokens::CreateTokenError,
    server::tokens::ListTokensError,
    server::tokens::OpenError,
    server::tokens::RevokeTokenError,
    store::remote::BucketError,
    store::remote::DownloadError,
    store::remote::UploadError,
);

impl<T> OrFail<T> for Result<T, store::snapshot::CatalogueError> {
    fn or_fail(self) -> Result<T, Failure> {
        self.map_err(|error| {
            Failure::host(error).hint("check the permissions of the data directory".to_owned())
        })
    }
}
