//! Images and snapshots for the service: each task is this program once more, as a user would start it.
//!
//! ```text
//! Task ─▶ arguments ─▶ child ──stderr──▶ steps, error, hint ──▶ presentable ─▶ Operation
//!                        │ └────stdout──▶ JSON ─────────────────────┘
//!          its stdin ends with the service: then it ends as by SIGTERM ([`attached`])
//! ```
//!
//! A process of its own, because these commands wait for room, keep a processor busy, and are ended as a whole, with all
//! that they have begun.

mod arguments;
pub(crate) mod attached;
mod child;
mod presentable;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;
use server::operations::{
    Administration, AdministrationError, BucketName, ImageInfo, RemoteImageInfo, RemoteSnapshotInfo,
    SnapshotInfo, Task,
};
use tokio_util::sync::CancellationToken;

use self::{child::Child, presentable::Presentable};
use crate::{failure::Failure, host::own_program, settings::Global};

/// How long a list may take: a bucket's has many requests.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

/// How long a task may take: an image of many GB over a slow line.
const TASK_PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);

/// Does what is asked for by starting this program.
pub(crate) struct ByCommands {
    program: PathBuf,
    /// What all of them are told.
    flags: Vec<OsString>,
    presentable: Presentable,
}

impl ByCommands {
    /// With the flags that this process was started with, on its data directory.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let data = global.data();
        Ok(Self {
            program: own_program()?,
            flags: arguments::global(data.root()),
            presentable: Presentable::new(data.root()),
        })
    }

    fn child(&self, arguments: Vec<OsString>) -> Child<'_> {
        let arguments = self.flags.iter().cloned().chain(arguments).collect();
        Child { program: &self.program, arguments, presentable: &self.presentable }
    }

    async fn list<T: DeserializeOwned>(
        &self,
        arguments: Vec<OsString>,
        trace_id: &str,
    ) -> Result<T, AdministrationError> {
        let child = self.child(arguments);
        let never = CancellationToken::new();
        let stdout = child.run(trace_id, LIST_PATIENCE, &|_| {}, &never).await?;
        let list = serde_json::from_slice(&stdout).map(|list| self.presentable.json(list));
        list.and_then(serde_json::from_value).map_err(|error| {
            tracing::error!(trace_id, %error, "a list is not what it is meant to be");
            AdministrationError::Failed("internal error".to_owned())
        })
    }
}

#[async_trait]
impl Administration for ByCommands {
    async fn images(&self, trace_id: &str) -> Result<Vec<ImageInfo>, AdministrationError> {
        self.list(arguments::list("rootfs"), trace_id).await
    }

    async fn snapshots(&self, trace_id: &str) -> Result<Vec<SnapshotInfo>, AdministrationError> {
        self.list(arguments::list("snapshot"), trace_id).await
    }

    async fn remote_images(
        &self,
        bucket: Option<&BucketName>,
        trace_id: &str,
    ) -> Result<Vec<RemoteImageInfo>, AdministrationError> {
        self.list(arguments::list_remote("rootfs", bucket), trace_id).await
    }

    async fn remote_snapshots(
        &self,
        bucket: Option<&BucketName>,
        trace_id: &str,
    ) -> Result<Vec<RemoteSnapshotInfo>, AdministrationError> {
        self.list(arguments::list_remote("snapshot", bucket), trace_id).await
    }

    async fn perform(
        &self,
        task: &Task,
        trace_id: &str,
        step: &(dyn Fn(String) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Option<Value>, AdministrationError> {
        let child = self.child(arguments::of(task));
        let stdout = child.run(trace_id, TASK_PATIENCE, step, cancel).await?;
        // Some say nothing but that they are done.
        let said = serde_json::from_slice(&stdout).ok();
        Ok(said.map(|said| self.presentable.json(said)))
    }
}
