//! Images for the tests of registries: trees that `mmdebstrap` makes, put into layers by `umoci` and pushed by
//! `skopeo`. They are made once and kept in the build directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::Engine as _;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::{build_directory, registry_server::Registry};

/// Debian's Python, and over it: a file of another program, an opaque directory, whiteouts, and a `PATH` without which
/// there is no `python3`.
pub const PYTHON: &str = "debian/python:layers";

/// The same behind an index with an entry for another machine, and one that says how it was built.
pub const INDEX: &str = "debian/python:index";

/// An index that has nothing for this machine.
pub const FOREIGN: &str = "debian/python:foreign";

/// A few files, one of them of some megabytes that cannot be compressed.
pub const SMALL: &str = "debian/small:1";

/// How long the file of [`SMALL`] is.
pub const SMALL_BYTES: usize = 6 << 20;

/// Who may pull from a registry with passwords.
pub const USER: (&str, &str) = ("tester", "pass:word with blanks");

/// The images, and where they are.
pub struct Images {
    directory: PathBuf,
}

impl Images {
    /// Those that all tests share.
    pub fn prepared() -> Self {
        let directory = build_directory().join("e2e-registry");
        fs::create_dir_all(&directory).expect("the build directory can be written");
        let lock =
            fs::File::create(directory.with_extension("lock")).expect("the build directory can be written");
        flock(&lock, FlockOperation::LockExclusive).expect("locks work");
        let images = Self { directory };
        if !images.directory.join("ready").exists() {
            images.make();
            fs::write(images.directory.join("ready"), "").expect("the build directory can be written");
        }
        images
    }

    /// A registry that has them.
    pub fn registry(&self) -> Registry {
        Registry::start(&self.directory.join("storage"), None)
    }

    /// A registry that has them for [`USER`].
    pub fn private_registry(&self) -> Registry {
        Registry::start(&self.directory.join("storage"), Some(&self.directory.join("htpasswd")))
    }

    /// The layout that the images were pushed from.
    pub fn layout(&self) -> PathBuf {
        self.directory.join("layout")
    }

    /// A directory that `DOCKER_CONFIG` can name, with a login at `registry`.
    pub fn docker_config(registry: &str, user: &str, password: &str) -> tempfile::TempDir {
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let directory = tempfile::tempdir().expect("temporary directories can be made");
        let config = json!({ "auths": { registry: { "auth": login } } });
        fs::write(directory.path().join("config.json"), config.to_string()).expect("it can be written");
        directory
    }

    fn make(&self) {
        for name in ["storage", "layout", "tree", "parts"] {
            let directory = self.directory.join(name);
            let _ = fs::remove_dir_all(&directory);
        }
        let at = |name: &str| self.directory.join(name);
        done(
            Command::new("mmdebstrap")
                .args(["--mode=root", "--variant=extract", "--format=directory", "--quiet"])
                .args(["--dpkgopt=force-unsafe-io", &format!("--include={}", python_packages())])
                .args(["bookworm"])
                .arg(at("tree")),
        );
        // As Debian lays out its directories since 12: a layer above goes through these links.
        for name in ["bin", "lib", "lib64", "sbin"] {
            let (old, new) = (at("tree").join(name), at("tree/usr").join(name));
            if old.is_dir() && !old.is_symlink() {
                fs::create_dir_all(&new).expect("a tree can be changed");
                done(Command::new("cp").args(["-a", "-T"]).args([&old, &new]));
                fs::remove_dir_all(&old).expect("a tree can be changed");
                std::os::unix::fs::symlink(format!("usr/{name}"), &old).expect("a tree can be changed");
            }
        }
        done(Command::new("ldconfig").arg("-r").arg(at("tree")));
        self.layers_above();
        let layout = self.layout();
        done(Command::new("umoci").arg("init").arg("--layout").arg(&layout));
        self.image("layers", &["tree", "parts/second", "parts/third"], &[]);
        done(self.umoci("config", "layers").args(["--config.env", "PATH=/opt/tools:/usr/bin:/bin"]));
        self.image("small", &["parts/small"], &[]);
        self.image("arm", &["parts/third"], &["--architecture", "arm64"]);
        self.image("attestation", &["parts/third"], &["--architecture", "unknown", "--os", "unknown"]);
        let (user, password) = USER;
        let output =
            Command::new("htpasswd").args(["-Bbn", user, password]).output().expect("there is htpasswd");
        fs::write(at("htpasswd"), output.stdout).expect("the build directory can be written");
        self.indexes();
        self.push();
        let _ = fs::remove_dir_all(at("parts"));
        let _ = fs::remove_dir_all(at("tree"));
    }

    /// What lies over Debian's files.
    fn layers_above(&self) {
        let at = |name: &str| self.directory.join("parts").join(name);
        let put = |path: PathBuf, text: &[u8]| {
            fs::create_dir_all(path.parent().expect("it is in a directory"))
                .expect("a directory can be made");
            fs::write(path, text).expect("a file can be written");
        };
        put(at("second/opt/tools/note"), b"low");
        fs::rename(
            self.directory.join("tree/usr/bin/python3.11"),
            self.directory.join("tree/usr/bin/python3.11-real"),
        )
        .expect("Debian 12 has Python 3.11");
        std::os::unix::fs::symlink("/usr/bin/python3.11-real", at("second/opt/tools/python3"))
            .expect("a link");
        put(at("second/usr/bin/.wh.python3"), b"");
        put(at("second/usr/share/doc/new"), b"alone");
        put(at("second/usr/share/doc/.wh..wh..opq"), b"");
        put(at("second/etc/removed-above"), b"low");
        put(at("third/etc/.wh.removed-above"), b"");
        put(at("third/opt/tools/note"), b"high");
        // Through Debian's link: to usr/lib.
        put(at("third/lib/from-above"), b"high");
        let mut number = 1_u64;
        let noise = std::iter::repeat_with(|| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            number.to_be_bytes()[0]
        });
        put(at("small/noise"), &noise.take(SMALL_BYTES).collect::<Vec<u8>>());
        put(at("small/etc/hello"), b"hello");
    }

    fn umoci(&self, verb: &str, tag: &str) -> Command {
        let mut command = Command::new("umoci");
        command.arg(verb).arg("--image").arg(format!("{}:{tag}", self.layout().display()));
        command
    }

    /// An image of these directories, each a layer.
    fn image(&self, tag: &str, layers: &[&str], configuration: &[&str]) {
        done(&mut self.umoci("new", tag));
        for layer in layers {
            let (directory, archive) = (self.directory.join(layer), self.directory.join("parts/layer.tar"));
            // A directory of its own would take the place of a link below: builders have none for what they leave alone.
            let members = if *layer == "tree" { vec![".".to_owned()] } else { files_in(&directory) };
            done(
                Command::new("tar")
                    .args(["--create", "--sort=name", "--numeric-owner", "--mtime=@1600000000"])
                    .args(["--format=posix", "--pax-option=delete=atime,delete=ctime", "--xattrs"])
                    .arg("--file")
                    .arg(&archive)
                    .arg("--directory")
                    .arg(&directory)
                    .args(members),
            );
            let image = format!("{}:{tag}", self.layout().display());
            done(Command::new("umoci").args(["raw", "add-layer", "--image", &image]).arg(&archive));
        }
        if !configuration.is_empty() {
            done(self.umoci("config", tag).args(configuration));
        }
    }

    /// Adds indexes of the images that there are to the layout.
    fn indexes(&self) {
        let path = self.layout().join("index.json");
        let mut index: Value =
            serde_json::from_slice(&fs::read(&path).expect("umoci has made it")).expect("it is JSON");
        let entry = |tag: &str, os: &str, architecture: &str| {
            let manifests = index["manifests"].as_array().expect("an index has manifests");
            let name = "org.opencontainers.image.ref.name";
            let found = manifests.iter().find(|one| one["annotations"][name] == tag).expect("it was made");
            let mut entry = found.clone();
            entry.as_object_mut().expect("an object").remove("annotations");
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            entry
        };
        let (arm, attestation) = (entry("arm", "linux", "arm64"), entry("attestation", "unknown", "unknown"));
        let ours = entry("layers", "linux", "amd64");
        for (tag, manifests) in
            [("index", json!([arm, ours, attestation])), ("foreign", json!([arm, attestation]))]
        {
            let kind = "application/vnd.oci.image.index.v1+json";
            let text = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests }).to_string();
            let digest = images::Sha256Digest::of_bytes(text.as_bytes());
            fs::write(self.layout().join("blobs/sha256").join(digest.to_string()), &text).expect("written");
            let entry = json!({
                "mediaType": kind, "digest": format!("sha256:{digest}"), "size": text.len(),
                "annotations": { "org.opencontainers.image.ref.name": tag },
            });
            index["manifests"].as_array_mut().expect("an index has manifests").push(entry);
        }
        fs::write(path, index.to_string()).expect("written");
    }

    fn push(&self) {
        let registry = self.registry();
        for (tag, name) in [("layers", PYTHON), ("index", INDEX), ("foreign", FOREIGN), ("small", SMALL)] {
            let from = format!("oci:{}:{tag}", self.layout().display());
            skopeo(&[
                "copy",
                "--all",
                "--dest-tls-verify=false",
                &from,
                &format!("docker://{}/{name}", registry.address),
            ]);
        }
    }
}

/// What the product itself makes a Python image of.
fn python_packages() -> String {
    let languages = engine::Languages::built_in();
    let python = languages.find("python").expect("there is Python");
    python.packages.join(",")
}

/// The paths of all files in a directory.
fn files_in(directory: &Path) -> Vec<String> {
    let output = Command::new("find").arg(directory).args(["!", "-type", "d", "-printf", "%P\\n"]).output();
    let output = output.expect("there is find");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Runs skopeo, which must succeed.
pub fn skopeo(arguments: &[&str]) {
    done(Command::new("skopeo").args(["--insecure-policy", "--override-arch", "amd64"]).args(arguments));
}

fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{stderr}", output.status);
}

/// The digest of a blob in the layout, by its number among the layers of the image with this tag.
pub fn layer_of(layout: &Path, tag: &str, number: usize) -> (String, u64) {
    let read = |path: PathBuf| -> Value {
        serde_json::from_slice(&fs::read(path).expect("a layout has it")).expect("it is JSON")
    };
    let index = read(layout.join("index.json"));
    let manifests = index["manifests"].as_array().expect("an index has manifests");
    let name = "org.opencontainers.image.ref.name";
    let found = manifests.iter().find(|one| one["annotations"][name] == tag).expect("it was made");
    let digest = found["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("SHA-256");
    let layer = &read(layout.join("blobs/sha256").join(digest))["layers"][number];
    let digest = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("SHA-256");
    (digest.to_owned(), layer["size"].as_u64().expect("a number"))
}

/// `rootfs from-docker` for Python with these arguments, as a user who has configured nothing.
pub fn from_docker(host: &crate::TestHost, image: &str, arguments: &[&str]) -> Command {
    let mut command =
        host.command(&[&["rootfs", "from-docker", "--name", "python", "--image", image], arguments].concat());
    for name in ["XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"] {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").env("CONTAINERS_REGISTRIES_CONF", "/nonexistent");
    command
}
