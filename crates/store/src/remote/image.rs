//! Images in a bucket.

use std::{fs, path::Path, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use images::{
    Progress, Sha256Digest,
    rootfs::{RootfsDetails, publish_bare_image, publish_image},
    staging::OutputLock,
};

use super::{
    Bucket, BucketError, DownloadError, PARALLEL, RemoteManifestError, UploadError, Uploaded, blocking,
    manifest::{MAX_MANIFEST_BYTES, REMOTE_FORMAT_VERSION, RemoteImage},
    names::{self, ObjectName},
    partial::{Partial, Taken},
    receive::{Received, receive},
    send::{Sent, send},
};
use crate::{DataDirectory, Language, snapshot::ReadFile};

/// An image of a bucket.
#[derive(Debug)]
pub struct ImageRow {
    /// Its language.
    pub language: Language,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// When it was uploaded, in seconds since 1970.
    pub uploaded_unix: u64,
    /// How long it is, and what it takes in the bucket; or why its manifest cannot be used.
    pub sizes: Result<(u64, u64), RemoteManifestError>,
    /// Whether it is the one of its language that was uploaded last.
    pub is_current: bool,
}

/// What a download of an image came to.
#[derive(Debug)]
pub struct ImageDownload {
    /// Its digest.
    pub sha256: Sha256Digest,
    /// How long it is.
    pub bytes: u64,
    /// How much came out of the bucket; nothing where the image was there.
    pub fetched_bytes: Option<u64>,
    /// What was found in the file.
    pub(super) read: ReadFile,
}

/// Uploads the image of `language`. With `again` also what of it is in the bucket.
pub async fn upload_image(
    bucket: &Bucket,
    data: &DataDirectory,
    language: &Language,
    again: bool,
    progress: &Arc<dyn Progress>,
) -> Result<(Sha256Digest, Uploaded), UploadError> {
    let path = data.image(language);
    let details = RootfsDetails::of_image(&path).map_err(UploadError::Details)?;
    progress.step(&format!("uploading the image of {language}"));
    let Sent { record, chunks, uploaded } = send(bucket, &path, again, progress).await?;
    let sha256 = record.sha256.clone();
    let manifest = RemoteImage {
        format_version: REMOTE_FORMAT_VERSION,
        language: language.clone(),
        image: record,
        chunks,
        details,
    };
    let text = serde_json::to_vec(&manifest).map_err(UploadError::Manifest)?;
    let name = ObjectName::of_image(language, &sha256);
    // What no download would take is not put there.
    if RemoteImage::parse(&text, name.as_str(), language, &sha256).is_err() {
        return Err(UploadError::Length { path, bytes: manifest.image.bytes });
    }
    // Last, and always: whoever sees it finds all that it names, and the newest is the current one.
    bucket.put(&name, text.into()).await?;
    Ok((sha256, uploaded))
}

/// Whether an image is in the bucket.
pub(super) async fn has_image(
    bucket: &Bucket,
    language: &Language,
    sha256: &Sha256Digest,
) -> Result<bool, BucketError> {
    Ok(bucket.length(&ObjectName::of_image(language, sha256)).await?.is_some())
}

/// The images of a bucket, or those of one language: by language, the newest first.
pub async fn list_images(bucket: &Bucket, language: Option<&Language>) -> Result<Vec<ImageRow>, BucketError> {
    let mut found = find_all(bucket, language).await?;
    found.sort_by(|one, other| one.language.cmp(&other.language).then(other.modified.cmp(&one.modified)));
    let mut rows: Vec<ImageRow> = stream::iter(&found)
        .map(|found| async {
            let sizes = match get(bucket, &found.language, &found.sha256).await {
                Ok(manifest) => {
                    Ok((manifest.image.bytes, manifest.chunks.iter().map(|chunk| chunk.stored).sum()))
                }
                Err(GetManifestError::Manifest(error)) => Err(error),
                Err(GetManifestError::Bucket(error)) => return Err(error),
            };
            Ok(ImageRow {
                language: found.language.clone(),
                sha256: found.sha256.clone(),
                uploaded_unix: found.uploaded_unix,
                sizes,
                is_current: false,
            })
        })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let mut previous = None;
    for row in &mut rows {
        row.is_current = previous.as_ref() != Some(&row.language);
        previous = Some(row.language.clone());
    }
    Ok(rows)
}

struct Found {
    language: Language,
    sha256: Sha256Digest,
    uploaded_unix: u64,
    modified: std::time::SystemTime,
}

async fn find_all(bucket: &Bucket, language: Option<&Language>) -> Result<Vec<Found>, BucketError> {
    let folder = match language {
        Some(language) => format!("{}/{language}", names::IMAGES),
        None => names::IMAGES.to_owned(),
    };
    let listed = bucket.list(&folder).await?;
    let found = listed.into_iter().filter_map(|object| {
        let (language, sha256) = names::parse_image(&object.name)?;
        let (uploaded_unix, modified) = (object.modified_unix, object.modified);
        Some(Found { language, sha256, uploaded_unix, modified })
    });
    Ok(found.collect())
}

/// Why a manifest was not had.
pub(super) enum GetManifestError {
    Bucket(BucketError),
    Manifest(RemoteManifestError),
}

impl From<GetManifestError> for DownloadError {
    fn from(error: GetManifestError) -> Self {
        match error {
            GetManifestError::Bucket(error) => error.into(),
            GetManifestError::Manifest(error) => error.into(),
        }
    }
}

async fn get(
    bucket: &Bucket,
    language: &Language,
    sha256: &Sha256Digest,
) -> Result<RemoteImage, GetManifestError> {
    let name = ObjectName::of_image(language, sha256);
    let text = bucket
        .get(&name, MAX_MANIFEST_BYTES, |text| async { Ok(text) })
        .await
        .map_err(GetManifestError::Bucket)?;
    RemoteImage::parse(&text, &bucket.shown(name.as_str()), language, sha256)
        .map_err(GetManifestError::Manifest)
}

/// Downloads an image: that with the digest, or the one that was uploaded last. Another one that is there is replaced
/// with `force` alone.
pub async fn download_image(
    bucket: &Bucket,
    data: &DataDirectory,
    language: &Language,
    sha256: Option<&Sha256Digest>,
    force: bool,
    progress: &Arc<dyn Progress>,
) -> Result<ImageDownload, DownloadError> {
    let none = || DownloadError::NoImage {
        bucket: bucket.address().to_string(),
        language: language.clone(),
        sha256: sha256.cloned(),
    };
    let newest;
    let sha256 = if let Some(sha256) = sha256 {
        sha256
    } else {
        let found = find_all(bucket, Some(language)).await?;
        let latest = found.into_iter().filter(|found| found.language == *language);
        newest = latest.max_by_key(|found| found.modified).ok_or_else(none)?.sha256;
        &newest
    };
    let manifest = match get(bucket, language, sha256).await {
        Err(GetManifestError::Bucket(error)) if error.is_missing() => return Err(none()),
        manifest => manifest?,
    };
    loop {
        let path = data.image(language);
        if let Some((read, bytes)) = read_image(&path, progress).await? {
            if read.sha256() == sha256 {
                return Ok(ImageDownload { sha256: sha256.clone(), bytes, fetched_bytes: None, read });
            }
            if !force {
                let hint =
                    "replace it with --force; snapshots that were made with it are stale then".to_owned();
                return Err(DownloadError::Different { path, hint });
            }
        }
        let taken = Partial::take(&data.downloads(), &manifest.image, progress).await?;
        // Whoever has finished it meanwhile has put it there.
        let Taken::Partial(partial) = taken else { continue };
        progress.step(&format!("downloading the image of {language}"));
        let received = receive(bucket, partial, &manifest.chunks, progress).await?;
        let (fetched_bytes, bytes) = (Some(received.fetched_bytes), manifest.image.bytes);
        let read = received.read.clone();
        let details = manifest.details;
        blocking(move || put_in_place(&received, &path, details)).await?;
        return Ok(ImageDownload { sha256: sha256.clone(), bytes, fetched_bytes, read });
    }
}

/// What is found in the image that is there, and its length; nothing where there is none.
pub(super) async fn read_image(
    path: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<Option<(ReadFile, u64)>, DownloadError> {
    let failed = |source| DownloadError::Write { path: path.to_owned(), source };
    let (image, progress) = (path.to_owned(), Arc::clone(progress));
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(failed)?,
    };
    progress.step(&format!("comparing with {}", path.display()));
    let sha256 = blocking(move || Sha256Digest::of_file(&image, &*progress)).await?;
    Ok(Some((ReadFile::new(&metadata, sha256), metadata.len())))
}

fn put_in_place(
    received: &Received,
    path: &Path,
    details: Option<RootfsDetails>,
) -> Result<(), DownloadError> {
    let failed = |source| DownloadError::Stage { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let lock = OutputLock::acquire(path).map_err(failed)?;
    let directory = lock.temporary_directory().map_err(failed)?;
    let staged = directory.path().join("image");
    fs::rename(&received.partial.path, &staged).map_err(failed)?;
    match details {
        Some(details) => drop(publish_image(&staged, path, details)?),
        None => publish_bare_image(&staged, path)?,
    }
    Ok(())
}
