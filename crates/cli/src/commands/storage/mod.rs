//! Images and snapshots in object storage: `upload`, `download` and `list --remote` of both, and what is fetched on demand.

mod on_demand;
mod rootfs;
mod snapshot;

pub(super) use on_demand::fetch_missing;
pub(super) use rootfs::{
    DownloadArgs as DownloadRootfsArgs, UploadArgs as UploadRootfsArgs, download as download_rootfs,
    list as list_rootfs, upload as upload_rootfs,
};
pub(super) use snapshot::{
    DownloadArgs as DownloadSnapshotArgs, UploadArgs as UploadSnapshotArgs, download as download_snapshot,
    list as list_snapshots, upload as upload_snapshot,
};

use engine::Languages;
use indicatif::HumanBytes;
use serde::Serialize;
use store::{Language, remote::Uploaded};

use super::rootfs::unknown_language;
use crate::failure::Failure;

/// The language of a name: one of ours by any of its names, or one that somebody else has made an image for.
fn language(name: &str) -> Result<Language, Failure> {
    let languages = Languages::built_in();
    match languages.find(name) {
        Some(spec) => Ok(spec.name.clone()),
        None => name.parse().map_err(|_| unknown_language(name, &languages)),
    }
}

/// What an upload came to, for scripts.
#[derive(Serialize)]
struct UploadedRow {
    bytes: u64,
    stored_bytes: u64,
    sent_bytes: u64,
}

impl From<&Uploaded> for UploadedRow {
    fn from(uploaded: &Uploaded) -> Self {
        let Uploaded { bytes, stored_bytes, sent_bytes } = *uploaded;
        Self { bytes, stored_bytes, sent_bytes }
    }
}

/// The same for people.
fn told(uploaded: &Uploaded) -> String {
    let sent = match uploaded.sent_bytes {
        0 => "all of it was there".to_owned(),
        sent => format!("{} sent now", HumanBytes(sent)),
    };
    format!("{}, {} in the bucket, {sent}", HumanBytes(uploaded.bytes), HumanBytes(uploaded.stored_bytes))
}

/// What a download came to, for people.
fn fetched(bytes: u64, fetched: Option<u64>) -> String {
    match fetched {
        None => "it was there already".to_owned(),
        Some(fetched) => format!("{}, {} fetched", HumanBytes(bytes), HumanBytes(fetched)),
    }
}
