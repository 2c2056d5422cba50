//! Images and snapshots go into a bucket and come out of it, and what a hostile bucket holds gets nowhere.
//!
//! The bucket is a directory here, so that tests can be anybody who writes to it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test's way to fail, in helpers too")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use images::{
    Progress, Quiet, Sha256Digest,
    rootfs::{ImageConfig, RootfsDetails, RootfsSource},
};
use serde_json::{Value, json};
use store::{
    DataDirectory, Language,
    remote::{
        Bucket, BucketAddress, BucketSettings, Credentials, DownloadError, RemoteManifestError, UploadError,
        Wanted, download_image, download_snapshot, list_images, list_snapshots, upload_image,
        upload_snapshot,
    },
    snapshot::{
        Catalogue, Current, FORMAT_VERSION, FileRecord, HostRecord, KernelRecord, Manifest, Mismatch, Size,
    },
};

const CHUNK: u64 = 8 << 20;
const IMAGE_BYTES: u64 = 3 * CHUNK + 1024;
const SIZE: Size = Size { memory_mib: 128, vcpus: 1 };

/// A bucket and data directories, all of them temporary.
struct Scene {
    root: tempfile::TempDir,
    bucket: Bucket,
}

fn quiet() -> Arc<dyn Progress> {
    Arc::new(Quiet)
}

fn python() -> Language {
    "python".parse().unwrap()
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = BucketSettings {
            address: BucketAddress::Directory(root.path().join("bucket")),
            endpoint: None,
            region: "us-east-1".to_owned(),
            credentials: Credentials::Instance,
            make_directory: true,
        };
        Self { bucket: Bucket::open(&settings).unwrap(), root }
    }

    fn data(&self, name: &str) -> DataDirectory {
        DataDirectory::new(self.root.path().join(name))
    }

    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
            }
        }
        let mut found = Vec::new();
        walk(&self.root.path().join("bucket").join(folder), &mut found);
        found
    }

    /// The one manifest of a folder, to be changed.
    fn manifest(&self, folder: &str) -> (PathBuf, Value) {
        let path = self.objects(folder).pop().unwrap();
        let manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (path, manifest)
    }

    async fn upload(&self, data: &DataDirectory) -> Sha256Digest {
        upload_image(&self.bucket, data, &python(), false, &quiet()).await.unwrap().0
    }

    async fn download(&self, data: &DataDirectory) -> Result<u64, DownloadError> {
        let done = download_image(&self.bucket, data, &python(), None, false, &quiet()).await?;
        Ok(done.fetched_bytes.unwrap_or_default())
    }

    async fn upload_snapshot(&self, data: &DataDirectory, manifest: &Manifest) {
        let entry = Catalogue::new(data.snapshots()).find(&python(), SIZE).unwrap();
        upload_snapshot(&self.bucket, data, &entry, manifest, false, &quiet()).await.unwrap();
    }

    async fn download_snapshot(&self, data: &DataDirectory) -> Result<PathBuf, DownloadError> {
        let wanted = Wanted { language: python(), size: SIZE, current: current(data), force: false };
        Ok(download_snapshot(&self.bucket, data, &wanted, &quiet()).await?.directory)
    }
}

/// A sparse file with some pages in it.
fn sparse(path: &Path, bytes: u64, pages: &[u64]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    for page in pages {
        file.write_all_at(&[u8::try_from(page % 250).unwrap() + 1; 4096], page * 4096).unwrap();
    }
    file.set_len(bytes).unwrap();
}

fn image(data: &DataDirectory, pages: &[u64]) {
    sparse(&data.image(&python()), IMAGE_BYTES, pages);
}

fn details(sha256: Sha256Digest) -> RootfsDetails {
    let environment = BTreeMap::from([("LANG".to_owned(), "C".to_owned())]);
    RootfsDetails {
        source: RootfsSource::Debian { packages: vec!["python3".to_owned()], suite: "bookworm".to_owned() },
        created: 1,
        sha256,
        size_bytes: IMAGE_BYTES,
        config: ImageConfig { environment, ..ImageConfig::default() },
        steps: Vec::new(),
    }
}

fn record(path: &Path) -> FileRecord {
    let sha256 = Sha256Digest::of_file(path, &Quiet).unwrap();
    FileRecord { sha256, bytes: fs::metadata(path).unwrap().len() }
}

fn host() -> HostRecord {
    HostRecord {
        vmm: "qemu".to_owned(),
        vmm_version: "7.2".to_owned(),
        acceleration: "tcg".to_owned(),
        cpu: "max".to_owned(),
        tsc_mhz: Some(2400),
    }
}

fn current(data: &DataDirectory) -> Current {
    Current {
        host: host(),
        kernel: None,
        rootfs: data.image(&python()),
        environment: BTreeMap::new(),
        protocol_generation: 1,
    }
}

/// Makes a snapshot that no VMM has seen.
fn snapshot(data: &DataDirectory, created_unix: u64) -> Manifest {
    snapshot_with_state(data, created_unix, 60_001)
}

/// The same with a device state of so many bytes.
fn snapshot_with_state(data: &DataDirectory, created_unix: u64, state_bytes: u64) -> Manifest {
    let staged = Catalogue::new(data.snapshots()).stage(&python(), SIZE).unwrap();
    sparse(&staged.device_state(), state_bytes, &[0, 3]);
    sparse(&staged.memory(), u64::from(SIZE.memory_mib) << 20, &[1, 2, 5000, 32_767]);
    let digest = Sha256Digest::of_bytes(b"kernel");
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        language: python(),
        size: SIZE,
        initialised: true,
        protocol_generation: 1,
        host: host(),
        kernel: KernelRecord { release: "6.12".to_owned(), vmlinux: digest.clone(), initramfs: digest },
        rootfs: record(&data.image(&python())),
        environment: BTreeMap::new(),
        device_state: record(&staged.device_state()),
        memory: record(&staged.memory()),
        created_unix,
    };
    staged.publish(&manifest).unwrap();
    manifest
}

#[tokio::test]
async fn an_image_comes_back_with_its_holes_and_what_is_noted_beside_it() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    // The third chunk is all zeros, and the last page is a short one.
    image(&one, &[0, 7, 2047, 3000]);
    let file = fs::File::options().write(true).open(one.image(&python())).unwrap();
    file.write_all_at(b"end", IMAGE_BYTES - 3).unwrap();
    let sha256 = record(&one.image(&python())).sha256;
    let noted = details(sha256.clone());
    let beside = one.image(&python()).with_extension("json");
    fs::write(&beside, serde_json::to_vec(&noted).unwrap()).unwrap();
    assert_eq!(scene.upload(&one).await, sha256);
    assert_eq!(scene.objects("chunks").len(), 3);

    assert!(scene.download(&two).await.unwrap() > 0);
    let path = two.image(&python());
    assert_eq!(record(&path), record(&one.image(&python())));
    assert_eq!(RootfsDetails::of_image(&path).unwrap(), Some(noted));
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 64 << 10, "its holes are filled");
    assert_eq!(scene.download(&two).await.unwrap(), 0, "it was there");
    let rows = list_images(&scene.bucket, None).await.unwrap();
    assert_eq!((rows.len(), rows[0].is_current, &rows[0].sha256), (1, true, &sha256));

    // Of an image without notes none are left that are not its own.
    fs::remove_file(beside).unwrap();
    image(&one, &[1]);
    scene.upload(&one).await;
    let done = download_image(&scene.bucket, &two, &python(), None, true, &quiet()).await.unwrap();
    assert_eq!(done.sha256, record(&path).sha256);
    assert_eq!(RootfsDetails::of_image(&path).unwrap(), None);
    assert_eq!(list_images(&scene.bucket, Some(&python())).await.unwrap().len(), 2);
}

#[tokio::test]
async fn equal_chunks_of_versions_are_one_object() {
    let scene = Scene::new();
    let one = scene.data("one");
    image(&one, &[0, 2048, 4096]);
    scene.upload(&one).await;
    image(&one, &[0, 2048, 4097]);
    let (_, uploaded) = upload_image(&scene.bucket, &one, &python(), false, &quiet()).await.unwrap();
    assert_eq!((scene.objects("chunks").len(), scene.objects("rootfs").len()), (4, 2));
    assert!(uploaded.sent_bytes < uploaded.stored_bytes);
    // What a crash or somebody else has left under a chunk's name is not taken for it.
    let chunks = scene.objects("chunks");
    for chunk in &chunks {
        fs::write(chunk, "").unwrap();
    }
    scene.upload(&one).await;
    image(&one, &[0, 2048, 4096]);
    scene.upload(&one).await;
    assert!(chunks.iter().all(|chunk| fs::metadata(chunk).unwrap().len() > 0));
}

#[tokio::test]
async fn manifests_of_images_that_are_not_to_be_believed_are_refused_before_anything_is_written() {
    type Change = Box<dyn Fn(&mut Value)>;
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0, 5000]);
    let sha256 = scene.upload(&one).await;
    let (path, good) = scene.manifest("rootfs");
    let noted = move |field: &'static str, value: Value| {
        let mut noted = serde_json::to_value(details(sha256.clone())).unwrap();
        noted[field] = value;
        Box::new(move |manifest: &mut Value| manifest["details"] = noted.clone()) as Change
    };
    let changes: Vec<(&str, Change)> = vec![
        ("language", Box::new(|m| m["language"] = json!("ruby"))),
        ("path", Box::new(|m| m["language"] = json!("../../etc"))),
        ("digest", Box::new(|m| m["image"]["sha256"] = json!("0".repeat(64)))),
        ("huge", Box::new(|m| m["image"]["bytes"] = json!(1_u64 << 41))),
        ("odd", Box::new(|m| m["image"]["bytes"] = json!(IMAGE_BYTES + 1))),
        ("empty", Box::new(|m| m["image"]["bytes"] = json!(0))),
        ("beyond", Box::new(|m| m["chunks"][1]["index"] = json!(4))),
        ("far", Box::new(|m| m["chunks"][1]["index"] = json!(u32::MAX))),
        ("twice", Box::new(|m| m["chunks"][1]["index"] = json!(0))),
        ("pages", Box::new(|m| m["chunks"][0]["pages"] = json!(2049))),
        ("no pages", Box::new(|m| m["chunks"][0]["pages"] = json!(0))),
        ("stored", Box::new(|m| m["chunks"][0]["stored"] = json!(1_u64 << 40))),
        ("chunk", Box::new(|m| m["chunks"][0]["sha256"] = json!("../../x"))),
        ("more", Box::new(|m| m["more"] = json!(1))),
        ("version", Box::new(|m| m["format_version"] = json!(2))),
        ("terminal", noted("steps", json!(["\u{1b}[31mEVIL"]))),
        ("variable", noted("config", json!({ "environment": { "A=B": "x" } }))),
        ("unknown", noted("\u{1b}[2J", json!(1))),
        // Longer than what is read of it when it lies beside the image.
        (
            "long",
            noted(
                "source",
                json!({ "kind": "debian", "suite": "bookworm", "packages": vec!["x".repeat(1000); 1100] }),
            ),
        ),
    ];
    for (what, change) in changes {
        let mut manifest = good.clone();
        change(&mut manifest);
        assert_ne!(manifest, good, "{what}");
        fs::write(&path, manifest.to_string()).unwrap();
        let refused = scene.download(&two).await;
        assert!(matches!(refused, Err(DownloadError::Manifest(_))), "{what}: {refused:?}");
        assert!(!two.root().exists(), "{what}: something was written");
        let row = list_images(&scene.bucket, None).await.unwrap().pop().unwrap();
        let mut error: Option<&dyn std::error::Error> = Some(row.sizes.as_ref().unwrap_err());
        while let Some(cause) = error {
            assert!(cause.to_string().chars().all(|c| !c.is_control()), "{what}: {cause:?}");
            error = cause.source();
        }
    }
    for text in ["", "{", "null", "[]", "{\"format_version\":1}", &"9".repeat(17 << 20)] {
        fs::write(&path, text).unwrap();
        assert!(scene.download(&two).await.is_err());
        assert!(!two.root().exists());
    }
    fs::write(&path, good.to_string()).unwrap();
    scene.download(&two).await.unwrap();
}

#[tokio::test]
async fn chunks_that_make_another_file_than_the_manifest_names_leave_nothing() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0, 2048]);
    scene.upload(&one).await;
    let (path, mut manifest) = scene.manifest("rootfs");
    manifest["chunks"].as_array_mut().unwrap().pop();
    fs::write(&path, manifest.to_string()).unwrap();
    let refused = scene.download(&two).await;
    assert!(matches!(refused, Err(DownloadError::Contradiction { .. })), "{refused:?}");
    assert!(!two.image(&python()).exists());
    assert_eq!(fs::read_dir(two.downloads()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_link_where_a_partial_file_belongs_is_not_followed() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0]);
    let sha256 = scene.upload(&one).await;
    let victim = scene.root.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::create_dir_all(two.downloads()).unwrap();
    std::os::unix::fs::symlink(&victim, two.downloads().join(format!("{sha256}.partial"))).unwrap();
    assert!(matches!(scene.download(&two).await, Err(DownloadError::Write { .. })));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[tokio::test]
async fn a_file_that_is_no_image_is_not_uploaded() {
    let scene = Scene::new();
    let one = scene.data("one");
    sparse(&one.image(&python()), 1000, &[]);
    let refused = upload_image(&scene.bucket, &one, &python(), false, &quiet()).await;
    assert!(matches!(refused, Err(UploadError::Length { bytes: 1000, .. })), "{refused:?}");
    assert!(scene.objects("rootfs").is_empty());
}

/// Somebody who edits a file while it is read.
struct Editor(PathBuf);

impl Progress for Editor {
    fn step(&self, _message: &str) {}

    fn bytes(&self, done: u64, _total: Option<u64>) {
        if done > 0 {
            fs::File::options().write(true).open(&self.0).unwrap().write_all_at(b"edited", 100).unwrap();
        }
    }
}

#[tokio::test]
async fn an_image_that_changes_while_it_is_uploaded_is_not_published() {
    let scene = Scene::new();
    let one = scene.data("one");
    image(&one, &[0, 2048, 4096, 6144]);
    let editor: Arc<dyn Progress> = Arc::new(Editor(one.image(&python())));
    let refused = upload_image(&scene.bucket, &one, &python(), false, &editor).await;
    assert!(matches!(refused, Err(UploadError::Changed { .. })), "{refused:?}");
    assert!(scene.objects("rootfs").is_empty());
}

/// Progress that must not be made.
struct Idle;

impl Progress for Idle {
    fn step(&self, message: &str) {
        panic!("{message}");
    }

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

#[tokio::test]
async fn a_snapshot_brings_its_image_and_need_not_be_read_before_its_first_use() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0, 5000]);
    let manifest = snapshot(&one, 1);
    scene.upload_snapshot(&one, &manifest).await;
    assert_eq!(scene.objects("rootfs").len(), 1);

    let directory = scene.download_snapshot(&two).await.unwrap();
    let catalogue = Catalogue::new(two.snapshots());
    let entry = catalogue.find(&python(), SIZE).unwrap();
    assert_eq!((entry.manifest.as_ref().unwrap(), &entry.directory), (&manifest, &directory));
    assert_eq!(record(&entry.memory()), manifest.memory);
    // Reading a file says so.
    assert_eq!(entry.check(&manifest, &current(&two), false, &Idle).unwrap(), None);
    assert_eq!(entry.check(&manifest, &current(&two), true, &Quiet).unwrap(), None);
    assert_eq!(fs::read_dir(two.downloads()).unwrap().count(), 0);

    // One of another time is another one.
    let newer = snapshot(&one, 2);
    scene.upload_snapshot(&one, &newer).await;
    let refused = scene.download_snapshot(&two).await;
    assert!(matches!(refused, Err(DownloadError::Different { .. })), "{refused:?}");
    let rows = list_snapshots(&scene.bucket, None).await.unwrap();
    assert_eq!((rows.len(), &rows[0].manifest.as_ref().unwrap().0), (1, &newer));
}

#[tokio::test]
async fn of_several_snapshots_one_that_fits_is_taken_or_the_nearest_named() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0]);
    let fitting = snapshot(&one, 1);
    scene.upload_snapshot(&one, &fitting).await;
    let mut foreign = fitting.clone();
    foreign.host.vmm = "firecracker".to_owned();
    scene.upload_snapshot(&one, &foreign).await;
    let mut near = fitting.clone();
    near.protocol_generation = 9;
    scene.upload_snapshot(&one, &near).await;
    assert_eq!(list_snapshots(&scene.bucket, None).await.unwrap().len(), 3, "kinds of hosts coexist");
    scene.download_snapshot(&two).await.unwrap();

    let third = scene.data("third");
    let nearest_to = async |current: Current| {
        let wanted = Wanted { language: python(), size: SIZE, current, force: false };
        match download_snapshot(&scene.bucket, &third, &wanted, &quiet()).await {
            Err(DownloadError::NoneFits { count: 3, nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        }
    };
    let other = HostRecord { vmm_version: "9.0".to_owned(), ..host() };
    let nearest = nearest_to(Current { host: other, ..current(&third) }).await;
    assert!(matches!(nearest, Mismatch::Vmm { .. }), "{nearest:?}");
    let nearest = nearest_to(Current { protocol_generation: 7, ..current(&third) }).await;
    assert!(matches!(nearest, Mismatch::Protocol { is: 7, .. }), "{nearest:?}");
    assert!(!third.root().exists(), "something was written");
}

#[tokio::test]
async fn a_bucket_full_of_rubbish_keeps_nobody_from_the_snapshot_of_his_kind_of_host_nor_busy_for_long() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0]);
    let manifest = snapshot(&one, 1);
    scene.upload_snapshot(&one, &manifest).await;
    let (path, _) = scene.manifest("snapshots");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    for number in 0..40 {
        fs::write(path.with_file_name(format!("{number:016x}.json")), "rubbish").unwrap();
    }
    // Without a kernel nobody knows what kind of host this is: the newest are looked at, but not all of them.
    let refused = scene.download_snapshot(&two).await;
    assert!(matches!(refused, Err(DownloadError::Manifest(_))), "{refused:?}");
    let current = Current { kernel: Some(manifest.kernel.clone()), ..current(&two) };
    let wanted = Wanted { language: python(), size: SIZE, current, force: false };
    download_snapshot(&scene.bucket, &two, &wanted, &quiet()).await.unwrap();
}

/// Sees how far a download has come when it has to wait for another one, and then lets it go on.
struct Waiting {
    other: Mutex<Option<fs::File>>,
    watched: PathBuf,
    was_there: Mutex<Option<bool>>,
}

impl Progress for Waiting {
    fn step(&self, message: &str) {
        if message.starts_with("waiting for another command") {
            *self.was_there.lock().unwrap() = Some(self.watched.exists());
            self.other.lock().unwrap().take();
        }
    }

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

#[tokio::test]
async fn files_are_locked_in_one_order_whatever_manifests_call_them() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0]);
    let is_crossed = |manifest: &Manifest| manifest.device_state.sha256 > manifest.memory.sha256;
    let mut made = (60_001..60_100).map(|bytes| snapshot_with_state(&one, 1, bytes));
    let manifest = made.find(is_crossed).unwrap();
    scene.upload_snapshot(&one, &manifest).await;
    // Somebody else downloads the one with the lower digest.
    fs::create_dir_all(two.downloads()).unwrap();
    let partial = |record: &FileRecord| two.downloads().join(format!("{}.partial", record.sha256));
    let other = fs::File::create(partial(&manifest.memory)).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let waiting = Arc::new(Waiting {
        other: Mutex::new(Some(other)),
        watched: partial(&manifest.device_state),
        was_there: Mutex::new(None),
    });
    let progress: Arc<dyn Progress> = waiting.clone();
    let wanted = Wanted { language: python(), size: SIZE, current: current(&two), force: false };
    download_snapshot(&scene.bucket, &two, &wanted, &progress).await.unwrap();
    assert_eq!(*waiting.was_there.lock().unwrap(), Some(false), "the other file was taken before");
}

#[tokio::test]
async fn manifests_of_snapshots_that_are_not_to_be_believed_are_refused_before_anything_is_written() {
    type Change = fn(&mut Value);
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &[0]);
    let manifest = snapshot(&one, 1);
    scene.upload_snapshot(&one, &manifest).await;
    let (path, good) = scene.manifest("snapshots");
    let changes: [(&str, Change); 11] = [
        ("size", |m| m["snapshot"]["size"]["memory_mib"] = json!(256)),
        ("memory", |m| m["snapshot"]["memory"]["bytes"] = json!(1_u64 << 40)),
        ("state", |m| m["snapshot"]["device_state"]["bytes"] = json!(257 << 20)),
        ("image", |m| m["snapshot"]["rootfs"]["bytes"] = json!(1_u64 << 41)),
        ("chunks", |m| m["memory"][0]["index"] = json!(16)),
        ("more", |m| m["snapshot"]["more"] = json!(1)),
        ("format", |m| m["snapshot"]["format_version"] = json!(99)),
        ("text", |m| m["snapshot"]["host"]["cpu"] = json!("\u{1b}[2J")),
        ("file", |m| m["device_state"] = json!("/etc/passwd")),
        ("one file", |m| m["snapshot"]["memory"]["sha256"] = m["snapshot"]["device_state"]["sha256"].clone()),
        ("the image", |m| m["snapshot"]["memory"]["sha256"] = m["snapshot"]["rootfs"]["sha256"].clone()),
    ];
    for (what, change) in changes {
        let mut manifest = good.clone();
        change(&mut manifest);
        assert_ne!(manifest, good, "{what}");
        fs::write(&path, manifest.to_string()).unwrap();
        let refused = scene.download_snapshot(&two).await;
        assert!(matches!(refused, Err(DownloadError::Manifest(_))), "{what}: {refused:?}");
        assert!(!two.root().exists(), "{what}: something was written");
    }
    // Blanks mean nothing, but nobody takes a manifest that is larger than any.
    let snapshot = good["snapshot"].to_string();
    let long = snapshot.replacen('{', &format!("{{{}", " ".repeat(64 << 10)), 1);
    fs::write(&path, good.to_string().replace(&snapshot, &long)).unwrap();
    let refused = scene.download_snapshot(&two).await;
    let is_implausible = |error: &DownloadError| {
        matches!(error, DownloadError::Manifest(RemoteManifestError::Implausible { .. }))
    };
    assert!(refused.as_ref().is_err_and(is_implausible), "{refused:?}");
    assert!(!two.root().exists());
    // Another release's is told from a damaged one.
    let mut newer = good.clone();
    newer["format_version"] = json!(2);
    fs::write(&path, newer.to_string()).unwrap();
    let Err(DownloadError::Manifest(refused)) = scene.download_snapshot(&two).await else { panic!("taken") };
    assert!(matches!(refused, RemoteManifestError::Version { found: 2, .. }), "{refused:?}");
    // Names that are none are not looked at.
    fs::rename(&path, path.with_file_name("0123456789ABCDEF.json")).unwrap();
    let none = scene.download_snapshot(&two).await;
    assert!(matches!(none, Err(DownloadError::NoSnapshot { .. })), "{none:?}");
}

#[tokio::test]
async fn commands_of_one_data_directory_do_not_get_into_each_others_way() {
    let scene = Scene::new();
    let (one, two) = (scene.data("one"), scene.data("two"));
    image(&one, &(0..6000).step_by(7).collect::<Vec<_>>());
    let manifest = snapshot(&one, 1);
    scene.upload_snapshot(&one, &manifest).await;
    let all = [(); 4].map(|()| scene.download_snapshot(&two));
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
    assert_eq!(record(&two.image(&python())), record(&one.image(&python())));
    assert_eq!(fs::read_dir(two.downloads()).unwrap().count(), 0);
}
