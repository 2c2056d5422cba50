//! What `host` and `run` fetch before they start: what is missing here and is in the bucket. Nothing that is there is ever
//! replaced.

use std::sync::Arc;

use engine::{Engine, Start, size};
use images::Progress;
use store::{
    DataDirectory, Language,
    remote::{self, Bucket},
    snapshot::Size,
};
use vmm::MachineSpec;

use super::snapshot::fetch;
use crate::{
    bucket::{BucketArgs, Make},
    failure::{Failure, OrFail as _},
    output::Steps,
    settings::{DEFAULT_MACHINE, Global},
};

/// Fetches what `start` needs. Where that fails, it is told, and the command goes on with what there is: it says by itself
/// what it lacks.
pub(crate) async fn fetch_missing(
    args: &BucketArgs,
    engine: &Engine,
    global: &Global,
    (language, machine, start): (&Language, Option<MachineSpec>, Start),
) {
    if !args.is_given(global) {
        return;
    }
    let steps = Arc::new(Steps::new());
    let progress: Arc<dyn Progress> = Arc::clone(&steps) as _;
    let missing = Missing { args, engine, global, data: &global.data(), language, progress: &progress };
    let fetched = missing.fetch(machine, start).await;
    steps.finish();
    if let Err(failure) = fetched {
        failure.warn();
    }
}

struct Missing<'a> {
    args: &'a BucketArgs,
    engine: &'a Engine,
    global: &'a Global,
    data: &'a DataDirectory,
    language: &'a Language,
    progress: &'a Arc<dyn Progress>,
}

impl Missing<'_> {
    async fn fetch(&self, machine: Option<MachineSpec>, start: Start) -> Result<(), Failure> {
        let snapshot_is_missing = match (start, machine) {
            (Start::Boot, _) => false,
            (_, Some(machine)) => self.engine.catalogue().find(self.language, size(machine)).is_none(),
            (_, None) => {
                let there = self.engine.catalogue().list().or_fail()?;
                !there.iter().any(|entry| entry.language == *self.language)
            }
        };
        let image_is_missing = !self.data.image(self.language).exists();
        if !snapshot_is_missing && !image_is_missing {
            return Ok(());
        }
        let bucket = self.args.open(Make::Nothing, self.global)?;
        let of_snapshot =
            if snapshot_is_missing { self.fetch_snapshot(&bucket, machine).await } else { Ok(()) };
        // Where it comes without a snapshot, the current one.
        let still_missing = !self.data.image(self.language).exists();
        if still_missing && (start != Start::Snapshot || !snapshot_is_missing) {
            let sha256 = self.image_of_snapshot(machine);
            let image = remote::download_image(
                &bucket,
                self.data,
                self.language,
                sha256.as_ref(),
                false,
                self.progress,
            );
            image.await.or_fail()?;
        }
        of_snapshot
    }

    /// The image that a snapshot which is there was made with.
    fn image_of_snapshot(&self, machine: Option<MachineSpec>) -> Option<images::Sha256Digest> {
        let machine = machine.unwrap_or(DEFAULT_MACHINE);
        let entry = self.engine.catalogue().find(self.language, size(machine))?;
        Some(entry.manifest.ok()?.rootfs.sha256)
    }

    async fn fetch_snapshot(&self, bucket: &Bucket, machine: Option<MachineSpec>) -> Result<(), Failure> {
        let size = match machine {
            Some(machine) => size(machine),
            None => self.best_size(bucket).await?,
        };
        let place = (self.language, size);
        fetch(self.engine, bucket, self.data, place, false, self.progress).await?;
        Ok(())
    }

    /// The default size where the bucket has it, else the smallest that it has.
    async fn best_size(&self, bucket: &Bucket) -> Result<Size, Failure> {
        let default = size(DEFAULT_MACHINE);
        let sizes = remote::list_sizes(bucket, self.language).await.or_fail()?;
        Ok(if sizes.contains(&default) { default } else { sizes.first().copied().unwrap_or(default) })
    }
}
