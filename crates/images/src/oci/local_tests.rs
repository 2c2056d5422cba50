//! Images in files: all ways to keep one give the same image, and a directory or an archive reaches nothing else.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::archives::Builder;
use super::create::{CreateFromImage, create_from_image, open_local};
use super::local::OpenImageError;
use super::{CreateFromImageError, Image};
use crate::digest::Sha256Digest;
use crate::progress::Quiet;
use crate::rootfs::RootfsSource;

/// An image of two layers.
struct Sample {
    layers: Vec<Vec<u8>>,
    configuration: Vec<u8>,
}

impl Sample {
    fn new() -> Self {
        let layers = vec![
            Builder::default().file("a", b"low").file("b", b"low").end(),
            Builder::default().file("a", b"high").file(".wh.b", b"").end(),
        ];
        let ids: Vec<String> =
            layers.iter().map(|layer| format!("sha256:{}", Sha256Digest::of_bytes(layer))).collect();
        let configuration = json!({
            "os": "linux", "architecture": "amd64",
            "config": { "Env": ["PATH=/opt/bin"] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        Self { layers, configuration: configuration.to_string().into_bytes() }
    }

    /// The files of OCI's layout.
    fn layout(&self) -> Vec<(String, Vec<u8>)> {
        const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
        let describe = |bytes: &[u8], kind: &str| json!({ "mediaType": kind, "digest": format!("sha256:{}", Sha256Digest::of_bytes(bytes)), "size": bytes.len() });
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| describe(layer, "application/vnd.oci.image.layer.v1.tar"))
            .collect();
        let configuration = describe(&self.configuration, "application/vnd.oci.image.config.v1+json");
        let manifest = json!({ "schemaVersion": 2, "config": configuration, "layers": layers }).to_string();
        let mut described = describe(manifest.as_bytes(), TYPE);
        described["annotations"] = json!({ "org.opencontainers.image.ref.name": "3" });
        let index = json!({ "schemaVersion": 2, "manifests": [described] }).to_string();
        let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", Sha256Digest::of_bytes(bytes)), bytes.to_vec());
        let mut files: Vec<_> = self.layers.iter().map(|layer| blob(layer)).collect();
        files.extend([blob(&self.configuration), blob(manifest.as_bytes())]);
        files.push(("index.json".to_owned(), index.into_bytes()));
        files
    }

    /// The files of an archive of Docker's.
    fn docker(&self) -> Vec<(String, Vec<u8>)> {
        let names: Vec<String> = (0..self.layers.len()).map(|number| format!("{number}/layer.tar")).collect();
        let manifest = json!([{ "Config": "c.json", "RepoTags": ["python:3"], "Layers": names }]).to_string();
        let mut files: Vec<_> = names.into_iter().zip(self.layers.iter().cloned()).collect();
        files.push(("c.json".to_owned(), self.configuration.clone()));
        files.push(("manifest.json".to_owned(), manifest.into_bytes()));
        files
    }
}

fn put(directory: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("it is in the directory")).expect("directory");
        fs::write(path, bytes).expect("write");
    }
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let add = |archive: Builder, (name, bytes): &(String, Vec<u8>)| archive.file(name, bytes);
    files.iter().fold(Builder::default(), add).end()
}

fn open(source: &str) -> Result<Image, OpenImageError> {
    let scratch = tempfile::tempdir().expect("temporary directory");
    let parsed = source.parse().expect("a source");
    open_local(&parsed, source, scratch.path(), &Quiet).expect("it is in files")
}

fn refusal(source: &str) -> String {
    let error = open(source).expect_err("refused");
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn made(source: &str, output: &Path) -> Result<Vec<u8>, CreateFromImageError> {
    let image = open(source).unwrap_or_else(|error| unreachable!("{error}"));
    let request = CreateFromImage { size_mib: Some(16), output: output.to_owned() };
    create_from_image(&image, &request, &Quiet).map(|made| {
        assert_eq!(made.path, output);
        fs::read(output).expect("an image")
    })
}

#[test]
fn a_layout_an_archive_of_it_and_one_of_dockers_give_the_same_image() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| directory.path().join(name);
    let sample = Sample::new();
    put(&path("layout"), &sample.layout());
    fs::write(path("layout.tar"), archive(&sample.layout())).expect("write");
    fs::write(path("docker.tar"), archive(&sample.docker())).expect("write");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive(&sample.docker())).expect("compress");
    fs::write(path("docker.tar.gz"), gzip.finish().expect("compress")).expect("write");
    let place = directory.path().display();
    let sources = [
        "oci:layout",
        "oci:layout:3",
        "oci-archive:layout.tar",
        "docker-archive:docker.tar:python:3",
        "docker-archive:docker.tar.gz",
    ];
    let images = sources.map(|source| {
        let (transport, rest) = source.split_once(':').expect("a transport");
        made(&format!("{transport}:{place}/{rest}"), &path("rootfs-python.ext4")).expect("made")
    });
    for (image, source) in images.iter().zip(sources) {
        assert!(*image == images[0], "{source}");
    }
    let details = fs::read(path("rootfs-python.json")).expect("noted");
    let details: crate::rootfs::RootfsDetails = serde_json::from_slice(&details).expect("a note");
    assert_eq!(details.config.environment["PATH"], "/opt/bin");
    assert!(matches!(details.source, RootfsSource::Oci { .. }));
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("list").flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".tmp")), "{left:?}");
}

#[test]
fn what_is_missing_or_another_is_told() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let place = directory.path().display().to_string();
    assert!(refusal(&format!("oci:{place}/none")).contains("holds no image"));
    assert!(refusal(&format!("oci:{place}")).contains("holds no image"));
    assert!(refusal(&format!("oci-archive:{place}/none")).contains("cannot read"));
    assert!(refusal(&format!("oci-archive:{place}")).contains("not a regular file"));
    let sample = Sample::new();
    let mut files = sample.layout();
    put(directory.path(), &files);
    assert!(refusal(&format!("oci:{place}:4")).contains("holds 0 images that go by 4"));
    // A blob that is not what its name says.
    let configuration = files[2].0.clone();
    fs::write(directory.path().join(&configuration), b"{}").expect("write");
    assert!(refusal(&format!("oci:{place}")).contains("is damaged"));
    fs::remove_file(directory.path().join(&configuration)).expect("remove");
    assert!(refusal(&format!("oci:{place}")).contains("lacks"));
    files.remove(0);
    fs::write(directory.path().join("x.tar"), archive(&files)).expect("write");
    assert!(refusal(&format!("oci-archive:{place}/x.tar")).contains("lacks"));
    fs::write(directory.path().join("x.tar"), b"no archive at all, but longer than a header".repeat(20))
        .expect("write");
    assert!(refusal(&format!("docker-archive:{place}/x.tar")).contains("no tar archive"));
}

#[test]
fn nothing_of_the_host_is_read_that_a_layout_links_to() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let secret = tempfile::NamedTempFile::new().expect("temporary file");
    let sample = Sample::new();
    fs::write(secret.path(), &sample.layers[0]).expect("write");
    put(directory.path(), &sample.layout());
    let layer = directory.path().join(&sample.layout()[0].0);
    fs::remove_file(&layer).expect("remove");
    std::os::unix::fs::symlink(secret.path(), &layer).expect("link");
    assert!(refusal(&format!("oci:{}", directory.path().display())).contains("cannot read"));
    // An archive names its members; paths of the host are none.
    let mut files = sample.docker();
    let outside = json!([{ "Config": "c.json", "Layers": ["/etc/hostname", "../../etc/hostname"] }]);
    files[3].1 = outside.to_string().into_bytes();
    let path = directory.path().join("docker.tar");
    fs::write(&path, archive(&files)).expect("write");
    assert!(refusal(&format!("docker-archive:{}", path.display())).contains("lacks \"/etc/hostname\""));
}

#[test]
fn no_text_of_an_archive_moves_a_terminal() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("docker.tar");
    let mut files = Sample::new().docker();
    for forged in [
        json!([{ "Config": "\x1b[2J\nhint: run this", "Layers": [] }]),
        json!([{ "Config": "c.json", "Layers": ["\x1b[2J\nhint: run this"] }]),
        json!([{ "Config": "c.json", "Layers": 5, "\x1b[2J\n": 7 }]),
    ] {
        files[3].1 = forged.to_string().into_bytes();
        fs::write(&path, archive(&files)).expect("write");
        let refusal = refusal(&format!("docker-archive:{}", path.display()));
        assert!(!refusal.contains(['\x1b', '\n']), "{refusal:?}");
    }
}

#[test]
fn layers_that_are_not_what_the_configuration_says_are_refused_and_the_old_image_stays() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (path, output) = (directory.path().join("docker.tar"), directory.path().join("rootfs-x.ext4"));
    let source = format!("docker-archive:{}", path.display());
    let sample = Sample::new();
    fs::write(&path, archive(&sample.docker())).expect("write");
    let good = made(&source, &output).expect("made");
    let mut swapped = Sample::new();
    swapped.layers.swap(0, 1);
    fs::write(&path, archive(&swapped.docker())).expect("write");
    assert!(matches!(made(&source, &output), Err(CreateFromImageError::Digest { number: 1, .. })));
    swapped.layers.pop();
    fs::write(&path, archive(&swapped.docker())).expect("write");
    assert!(matches!(
        made(&source, &output),
        Err(CreateFromImageError::LayerCount { layers: 1, configured: 2, .. })
    ));
    assert!(fs::read(&output).expect("an image") == good);
}
