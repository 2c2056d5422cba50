//! Snapshots in a bucket.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use images::Progress;

use super::{
    Bucket, BucketError, DownloadError, PARALLEL, RemoteManifestError, UploadError, Uploaded, blocking,
    image::{GetManifestError, download_image, has_image, read_image, upload_image},
    manifest::{MAX_MANIFEST_BYTES, REMOTE_FORMAT_VERSION, RemoteSnapshot},
    names::{self, HostKey, ObjectName},
    partial::{Partial, Taken},
    receive::{Received, receive},
    send::{Sent, send},
};
use crate::{
    DataDirectory, Language,
    snapshot::{Catalogue, CatalogueError, Current, Entry, Manifest, Mismatch, ReadFile, Size},
};

/// A snapshot of a bucket.
#[derive(Debug)]
pub struct SnapshotRow {
    /// Its language.
    pub language: Language,
    /// Its size.
    pub size: Size,
    /// When it was uploaded, in seconds since 1970.
    pub uploaded_unix: u64,
    /// Its own manifest and what it takes in the bucket; or why its manifest cannot be used.
    pub manifest: Result<(Manifest, u64), RemoteManifestError>,
}

/// What snapshot is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The language.
    pub language: Language,
    /// The size.
    pub size: Size,
    /// What there is on this host: where it is to be restored.
    pub current: Current,
    /// Whether another one that is there is replaced.
    pub force: bool,
}

/// What a download of a snapshot came to.
#[derive(Debug)]
pub struct SnapshotDownload {
    /// Where it is.
    pub directory: PathBuf,
    /// How long its files are.
    pub bytes: u64,
    /// How much came out of the bucket, its image's part too; nothing where the snapshot was there.
    pub fetched_bytes: Option<u64>,
}

/// Uploads a snapshot that was checked against this host, and its image where the bucket has not got it. With `again`
/// also what of it is in the bucket.
pub async fn upload_snapshot(
    bucket: &Bucket,
    data: &DataDirectory,
    entry: &Entry,
    manifest: &Manifest,
    again: bool,
    progress: &Arc<dyn Progress>,
) -> Result<Uploaded, UploadError> {
    let (language, size) = (&manifest.language, manifest.size);
    let command = format!(
        "infra.operator snapshot create --lang {language} --mem {} --vcpus {}",
        size.memory_mib, size.vcpus
    );
    let damaged = |path| UploadError::Damaged { path, command: command.clone() };
    let mut all = Uploaded::default();
    if again || !has_image(bucket, language, &manifest.rootfs.sha256).await? {
        let (sha256, uploaded) = upload_image(bucket, data, language, again, progress).await?;
        if sha256 != manifest.rootfs.sha256 {
            return Err(damaged(data.image(language)));
        }
        all = uploaded;
    }
    let mut chunks = Vec::new();
    for (what, path, record) in [
        ("device state", entry.device_state(), &manifest.device_state),
        ("memory", entry.memory(), &manifest.memory),
    ] {
        progress.step(&format!("uploading the {what} of {language} {size}"));
        let Sent { record: sent, chunks: these, uploaded } = send(bucket, &path, again, progress).await?;
        if sent != *record {
            return Err(damaged(path));
        }
        all = all.and(&uploaded);
        chunks.push(these);
    }
    let (Some(memory), Some(device_state)) = (chunks.pop(), chunks.pop()) else {
        return Err(damaged(entry.directory.clone()));
    };
    let name = ObjectName::of_snapshot(language, size, &HostKey::of(manifest));
    let remote = RemoteSnapshot {
        format_version: REMOTE_FORMAT_VERSION,
        snapshot: manifest.clone(),
        device_state,
        memory,
    };
    let text = serde_json::to_vec(&remote).map_err(UploadError::Manifest)?;
    // What no download would take is not put there.
    if RemoteSnapshot::parse(&text, name.as_str(), language, size).is_err() {
        return Err(damaged(entry.directory.clone()));
    }
    // Last, and always: whoever sees it finds all that it names, and the newest is the newest.
    bucket.put(&name, text.into()).await?;
    Ok(all)
}

/// The snapshots of a bucket, or those of one language: by language and size, the newest first.
pub async fn list_snapshots(
    bucket: &Bucket,
    language: Option<&Language>,
) -> Result<Vec<SnapshotRow>, BucketError> {
    let mut found = find_all(bucket, language).await?;
    found.sort_by(|one, other| {
        (&one.language, one.size).cmp(&(&other.language, other.size)).then(other.modified.cmp(&one.modified))
    });
    stream::iter(&found)
        .map(|found| async {
            let manifest = match found.get(bucket).await {
                Ok(remote) => {
                    let chunks = remote.device_state.iter().chain(&remote.memory);
                    let stored = chunks.map(|chunk| chunk.stored).sum();
                    Ok((remote.snapshot, stored))
                }
                Err(GetManifestError::Manifest(error)) => Err(error),
                Err(GetManifestError::Bucket(error)) => return Err(error),
            };
            Ok(SnapshotRow {
                language: found.language.clone(),
                size: found.size,
                uploaded_unix: found.uploaded_unix,
                manifest,
            })
        })
        .buffered(PARALLEL)
        .try_collect()
        .await
}

/// The sizes in which a bucket has snapshots of a language.
pub async fn list_sizes(bucket: &Bucket, language: &Language) -> Result<Vec<Size>, BucketError> {
    let found = find_all(bucket, Some(language)).await?;
    let sizes: BTreeSet<Size> = found.iter().map(|found| found.size).collect();
    Ok(sizes.into_iter().collect())
}

struct Found {
    language: Language,
    size: Size,
    key: HostKey,
    uploaded_unix: u64,
    modified: SystemTime,
}

impl Found {
    async fn get(&self, bucket: &Bucket) -> Result<RemoteSnapshot, GetManifestError> {
        let name = ObjectName::of_snapshot(&self.language, self.size, &self.key);
        let text = bucket
            .get(&name, MAX_MANIFEST_BYTES, |text| async { Ok(text) })
            .await
            .map_err(GetManifestError::Bucket)?;
        RemoteSnapshot::parse(&text, &bucket.shown(name.as_str()), &self.language, self.size)
            .map_err(GetManifestError::Manifest)
    }
}

async fn find_all(bucket: &Bucket, language: Option<&Language>) -> Result<Vec<Found>, BucketError> {
    let folder = match language {
        Some(language) => format!("{}/{language}", names::SNAPSHOTS),
        None => names::SNAPSHOTS.to_owned(),
    };
    let listed = bucket.list(&folder).await?;
    let found = listed.into_iter().filter_map(|object| {
        let (language, size, key) = names::parse_snapshot(&object.name)?;
        let (uploaded_unix, modified) = (object.modified_unix, object.modified);
        Some(Found { language, size, key, uploaded_unix, modified })
    });
    Ok(found.collect())
}

/// Downloads the newest snapshot that can be restored on this host, and its image where there is none.
pub async fn download_snapshot(
    bucket: &Bucket,
    data: &DataDirectory,
    wanted: &Wanted,
    progress: &Arc<dyn Progress>,
) -> Result<SnapshotDownload, DownloadError> {
    let (language, size) = (&wanted.language, wanted.size);
    let image = read_image(&data.image(language), progress).await?.map(|(read, _)| read);
    let remote = choose(bucket, wanted, image.as_ref()).await?;
    let manifest = &remote.snapshot;
    let bytes = manifest.device_state.bytes + manifest.memory.bytes;
    let catalogue = Catalogue::new(data.snapshots());
    let sha256 = &manifest.rootfs.sha256;
    let mut image = if let Some(read) = image {
        if read.sha256() != sha256 {
            return Err(another_image(data, manifest));
        }
        (read, 0)
    } else {
        let download = download_image(bucket, data, language, Some(sha256), false, progress).await?;
        (download.read, download.fetched_bytes.unwrap_or_default())
    };
    loop {
        if let Some(entry) = catalogue.find(language, size) {
            if entry.manifest.as_ref().is_ok_and(|there| there == manifest) {
                return Ok(SnapshotDownload { directory: entry.directory, bytes, fetched_bytes: None });
            }
            if !wanted.force {
                let hint = "replace it with --force".to_owned();
                return Err(DownloadError::Different { path: entry.directory, hint });
            }
        }
        let downloads = data.downloads();
        let (state, memory) = (&manifest.device_state, &manifest.memory);
        // In the order of their digests: two commands, one's state being the other's memory, would wait for each other.
        let is_state_first = state.sha256 < memory.sha256;
        let (first, second) = if is_state_first { (state, memory) } else { (memory, state) };
        let Taken::Partial(first) = Partial::take(&downloads, first, progress).await? else { continue };
        // Whoever has finished it meanwhile has put it there.
        let Taken::Partial(second) = Partial::take(&downloads, second, progress).await? else { continue };
        let (state, memory) = if is_state_first { (first, second) } else { (second, first) };
        progress.step(&format!("downloading the device state of {language} {size}"));
        let state = receive(bucket, state, &remote.device_state, progress).await?;
        progress.step(&format!("downloading the memory of {language} {size}"));
        let memory = receive(bucket, memory, &remote.memory, progress).await?;
        image.1 += state.fetched_bytes + memory.fetched_bytes;
        let (catalogue, manifest) = (catalogue.clone(), manifest.clone());
        let (place, read) = (data.image(language), image.0);
        let directory =
            blocking(move || put_in_place(&catalogue, &manifest, state, memory, (place, read))).await?;
        return Ok(SnapshotDownload { directory, bytes, fetched_bytes: Some(image.1) });
    }
}

fn another_image(data: &DataDirectory, manifest: &Manifest) -> DownloadError {
    let (language, sha256) = (&manifest.language, &manifest.rootfs.sha256);
    let hint = format!(
        "get that image: infra.operator rootfs download --lang {language} --digest {sha256} --force; or make a snapshot \
         of the one that is there: infra.operator snapshot create --lang {language}"
    );
    DownloadError::OtherImage { path: data.image(language), hint }
}

/// How many snapshots are looked at to find one that fits. There are a handful of kinds of hosts.
const MAX_CANDIDATES: usize = 32;

/// The one of this very kind of host, or the newest that fits it, and of those one that fits the image that is there, if any does.
async fn choose(
    bucket: &Bucket,
    wanted: &Wanted,
    image: Option<&ReadFile>,
) -> Result<RemoteSnapshot, DownloadError> {
    let Wanted { language, size, current, .. } = wanted;
    let (address, language, size) = (bucket.address().to_string(), language.clone(), *size);
    let mut found = find_all(bucket, Some(&language)).await?;
    found.retain(|found| found.language == language && found.size == size);
    // Almost always the one of this very kind of host is it. Whoever may write to the bucket could put thousands before it.
    let own = HostKey::of_current(current);
    found.sort_by_key(|found| (Some(&found.key) != own.as_ref(), std::cmp::Reverse(found.modified)));
    found.truncate(MAX_CANDIDATES);
    let (mut of_other_image, mut nearest, mut unusable) = (None, None, None);
    let count = found.len();
    for found in found {
        let remote = match found.get(bucket).await {
            Ok(remote) => remote,
            Err(GetManifestError::Manifest(error)) => {
                unusable = unusable.or(Some(error));
                continue;
            }
            Err(GetManifestError::Bucket(error)) => return Err(error.into()),
        };
        let mut current = current.clone();
        if image.is_none() {
            // The image comes with it, and its environment too.
            current.environment.clone_from(&remote.snapshot.environment);
        }
        match remote.snapshot.compare(&current) {
            None if image.is_none_or(|image| *image.sha256() == remote.snapshot.rootfs.sha256) => {
                return Ok(remote);
            }
            None => of_other_image = of_other_image.or(Some(remote)),
            Some(mismatch) => {
                nearest = [nearest, Some(mismatch)].into_iter().flatten().max_by_key(nearness);
            }
        }
    }
    match (of_other_image, nearest, unusable) {
        (Some(remote), ..) => Ok(remote),
        (_, Some(nearest), _) => {
            Err(DownloadError::NoneFits { bucket: address, language, size, count, nearest })
        }
        (.., Some(error)) => Err(error.into()),
        _ => Err(DownloadError::NoSnapshot { bucket: address, language, size: Some(size) }),
    }
}

/// How little is amiss: the later a difference is found, the more is the same.
fn nearness(mismatch: &Mismatch) -> u8 {
    match mismatch {
        Mismatch::Vmm { .. } => 0,
        Mismatch::Cpu { .. } => 1,
        Mismatch::Protocol { .. } => 2,
        Mismatch::Environment => 3,
        Mismatch::Kernel { .. } => 4,
        Mismatch::Rootfs { .. } | Mismatch::Damaged { .. } => 5,
    }
}

fn put_in_place(
    catalogue: &Catalogue,
    manifest: &Manifest,
    state: Received,
    memory: Received,
    image: (PathBuf, ReadFile),
) -> Result<PathBuf, DownloadError> {
    let staged = catalogue.stage(&manifest.language, manifest.size)?;
    for (received, to) in [(&state, staged.device_state()), (&memory, staged.memory())] {
        fs::rename(&received.partial.path, &to).map_err(|source| {
            DownloadError::Catalogue(CatalogueError::Io { doing: "write", path: to, source })
        })?;
    }
    let directory = staged.publish(manifest)?;
    if let Some(entry) = catalogue.find(&manifest.language, manifest.size) {
        let files = [(entry.device_state(), state.read), (entry.memory(), memory.read), image];
        // Spares the first restore the reading of what was read just now. Without the note it is read again.
        if let Err(error) = entry.note_read(files) {
            tracing::debug!(%error, "cannot note what was verified");
        }
    }
    Ok(directory)
}
