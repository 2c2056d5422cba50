//! Images from a real registry: the same bytes whichever way they come, for those who may have them, and they run.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use e2e::{
    TestHost,
    mounted::Mounted,
    registry_images::{FOREIGN, INDEX, Images, PYTHON, SMALL, USER, from_docker, layer_of, skopeo},
    registry_server::{Fault, Proxy},
    running::{Ended, Running},
};
use serde_json::{Value, json};

/// This host cannot do it.
const HOST: i32 = 3;

fn pull(host: &TestHost, image: &str, arguments: &[&str]) -> Ended {
    Ended::new(&from_docker(host, image, arguments).output().unwrap())
}

fn works(host: &TestHost, image: &str, arguments: &[&str]) {
    let ended = pull(host, image, arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{image}: {ended:?}");
    assert_eq!(host.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
}

/// What is noted beside the image.
fn details(host: &TestHost) -> Value {
    serde_json::from_slice(&fs::read(host.data().join("images/rootfs-python.json")).unwrap()).unwrap()
}

fn file(host: &TestHost, path: &str) -> String {
    let read = format!("cat {path}");
    let output = Command::new("/sbin/debugfs").args(["-R", &read]).arg(host.image()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_image_is_the_same_whichever_way_it_comes() {
    let images = Images::prepared();
    let registry = images.registry();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let layout = format!("oci:{}:layers", images.layout().display());
    skopeo(&["copy", &layout, &format!("oci-archive:{}:layers", at("oci.tar"))]);
    skopeo(&["copy", &layout, &format!("docker-archive:{}:python:layers", at("docker.tar"))]);
    let host = TestHost::empty();
    works(&host, &format!("{}/{PYTHON}", registry.address), &[]);
    let first = details(&host);
    assert_eq!(first["source"]["kind"], "oci", "{first}");
    assert_eq!(first["config"]["environment"]["PATH"], "/opt/tools:/usr/bin:/bin", "{first}");
    let digest = first["source"]["manifest"].as_str().unwrap();
    let repository = format!("{}/debian/python", registry.address);
    for image in [
        format!("docker://{}/{INDEX}", registry.address),
        format!("{repository}@sha256:{digest}"),
        layout,
        format!("oci:{}:index", images.layout().display()),
        format!("oci-archive:{}", at("oci.tar")),
        format!("docker-archive:{}", at("docker.tar")),
    ] {
        works(&host, &image, &[]);
        assert_eq!(details(&host)["sha256"], first["sha256"], "{image}");
    }
}

/// Everything below a directory: kind, mode, owner, target; and when files were modified.
fn listing(directory: &Path) -> String {
    let output = Command::new("find")
        .arg(directory)
        // Images get no device nodes: the kernel of a guest makes its own.
        .args(["-path", "*/lost+found", "-prune", "-o", "-type", "c", "-o", "-type", "b", "-o"])
        .args(["(", "-type", "d", "-printf", "%P %y %m %U %G\\n", ")", "-o"])
        .args(["(", "!", "-type", "d", "-printf", "%P %y %m %U %G %n %s %T@ %l\\n", ")"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn the_kernel_sees_what_another_program_unpacks() {
    let images = Images::prepared();
    let registry = images.registry();
    let host = TestHost::empty();
    works(&host, &format!("{}/{PYTHON}", registry.address), &[]);
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("bundle");
    let image = format!("{}:layers", images.layout().display());
    let unpacked = Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    let mounted = Mounted::image(&host.image());
    let (ours, theirs) = (listing(mounted.path()), listing(&bundle.join("rootfs")));
    let compared = Command::new("diff")
        .args(["--recursive", "--no-dereference", "--brief", "--exclude=lost+found", "--exclude=dev"])
        .args([mounted.path(), &bundle.join("rootfs")])
        .output();
    drop(mounted);
    let differing: Vec<_> =
        ours.lines().filter(|line| !theirs.lines().any(|other| other == *line)).take(9).collect();
    assert!(ours == theirs, "{differing:#?}");
    let compared = compared.unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    // And what the layers are about.
    assert_eq!(
        (file(&host, "/opt/tools/note"), file(&host, "/usr/lib/from-above")),
        ("high".into(), "high".into())
    );
    let lines: Vec<&str> = ours.lines().collect();
    let has = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!([has("usr/bin/python3 "), has("etc/removed-above"), has("usr/share/doc/")], [0, 0, 1]);
}

#[test]
fn what_has_been_downloaded_is_not_downloaded_again() {
    let images = Images::prepared();
    let registry = images.registry();
    let proxy = Proxy::start(registry.address, |_, _| Fault::None);
    let host = TestHost::empty();
    let layers: Vec<String> = (0..3).map(|number| layer_of(&images.layout(), "layers", number).0).collect();
    let asked = || layers.iter().map(|layer| proxy.exchanges_about(layer).len()).collect::<Vec<_>>();
    works(&host, &format!("{}/{PYTHON}", proxy.address), &[]);
    assert_eq!(asked(), [1, 1, 1]);
    // Another name, and another way to the same layers.
    works(&host, &format!("{}/{INDEX}", proxy.address), &[]);
    works(&host, &format!("{}/{PYTHON}", registry.address), &[]);
    assert_eq!(asked(), [1, 1, 1]);
}

#[test]
fn a_private_registry_is_for_those_who_have_logged_in() {
    let images = Images::prepared();
    let registry = images.private_registry();
    let (address, (user, password)) = (registry.address.to_string(), USER);
    let image = format!("{address}/{SMALL}");
    let host = TestHost::empty();
    let ended = pull(&host, &image, &[]);
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains(&format!("{address} refuses access")), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains(&format!("hint: check the image's name; if it is private: docker login {address}")),
        "{ended:?}"
    );

    let login = |password| {
        let config = Images::docker_config(&address, user, password);
        let mut command = from_docker(&host, &image, &["-v", "-v"]);
        Ended::new(&command.env("DOCKER_CONFIG", config.path()).output().unwrap())
    };
    let ended = login("wrong-secret");
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains("refuses access with these credentials"), "{ended:?}");
    assert!(ended.stderr.contains(&format!("hint: docker login {address} again")), "{ended:?}");
    assert!(!ended.stderr.contains("wrong-secret"), "{ended:?}");
    assert!(!host.image().exists());
    let ended = login(password);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains(password) && !ended.stderr.contains("Basic "), "{ended:?}");
    let note = fs::read_to_string(host.data().join("images/rootfs-python.json")).unwrap();
    assert!(!note.contains(password), "{note}");
    assert_eq!(file(&host, "/etc/hello"), "hello");
}

#[test]
fn mirrors_are_named_on_the_command_line_in_the_environment_and_in_a_file() {
    let images = Images::prepared();
    let registry = images.registry();
    // Nobody answers there: the first of two mirrors is of no use, and the registry itself is never reached.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (mirror, dead) = (format!("http://{}", registry.address), closed.local_addr().unwrap());
    drop(closed);
    let host = TestHost::empty();
    works(&host, SMALL, &["--registry-mirror", &mirror]);
    works(&host, SMALL, &["--registry-mirror", &format!("http://{dead},{mirror}")]);
    works(
        &host,
        &format!("mirrored.example/{SMALL}"),
        &["--registry-mirror", &format!("mirrored.example={mirror}")],
    );
    let mut command = from_docker(&host, SMALL, &[]);
    let ended = Ended::new(&command.env("LLM_FIRECRACKER_REGISTRY_MIRROR", &mirror).output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registries.conf");
    let configuration = format!(
        "[[registry]]\nprefix = \"docker.io/debian\"\nlocation = \"{}/debian\"\ninsecure = true\n\
         [[registry]]\nprefix = \"blocked.example\"\nblocked = true\n",
        registry.address
    );
    fs::write(&file, configuration).unwrap();
    let with_file = |image: &str| {
        let mut command = from_docker(&host, image, &[]);
        Ended::new(&command.env("CONTAINERS_REGISTRIES_CONF", &file).output().unwrap())
    };
    let ended = with_file(SMALL);
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = with_file("blocked.example/a");
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains("blocked.example is blocked by "), "{ended:?}");
}

#[test]
fn what_is_not_there_or_for_another_machine_is_told() {
    let images = Images::prepared();
    let registry = images.registry();
    let host = TestHost::empty();
    let refusal = |image: &str, expected: &str| {
        let ended = pull(&host, &format!("{}/{image}", registry.address), &[]);
        assert_eq!((ended.code, ended.stdout.as_str()), (HOST, ""), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{expected:?} is not in {ended:?}");
    };
    refusal(FOREIGN, "it is for linux/arm64, not for linux/amd64");
    refusal("debian/python:none", "does not have it");
    refusal("debian/none", "hint: check the image's name and tag");
    refusal(&format!("debian/python@sha256:{}", "0".repeat(64)), "does not have it");
    let ended = pull(&host, "Not An Image", &[]);
    assert_eq!(ended.code, 2, "{ended:?}");
    let ended = pull(&host, &format!("{}/{SMALL}", registry.address), &["--size", "8"]);
    assert_eq!(ended.code, HOST, "{ended:?}");
    let needed = ended.stderr.split("hint: use --size ").nth(1).and_then(|rest| rest.split(' ').next());
    let needed: u64 = needed.unwrap_or_else(|| panic!("no size in {ended:?}")).parse().unwrap();
    works(&host, &format!("{}/{SMALL}", registry.address), &["--size", &needed.to_string()]);
    assert_eq!(fs::metadata(host.image()).unwrap().len(), needed << 20);
}

#[test]
fn two_commands_at_once_for_one_image_download_it_once() {
    let images = Images::prepared();
    let registry = images.registry();
    let (layer, size) = layer_of(&images.layout(), "small", 0);
    let proxy = Proxy::start(registry.address, |_, _| Fault::None);
    let host = TestHost::empty();
    let image = format!("{}/{SMALL}", proxy.address);
    let outputs = ["one", "two", "three"].map(|name| host.data().join(name));
    let running = outputs.each_ref().map(|output| {
        Running::start(&mut from_docker(&host, &image, &["--output", output.to_str().unwrap()]))
    });
    for running in running {
        let ended = running.end_within(Duration::from_secs(60)).unwrap();
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_eq!(proxy.exchanges_about(&layer).iter().map(|exchange| exchange.sent).sum::<u64>(), size);
    let contents = outputs.map(|output| fs::read(output).unwrap());
    assert!(contents[0] == contents[1] && contents[1] == contents[2]);
    assert_eq!(host.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_program_runs_in_an_image_with_the_path_that_the_image_sets() {
    let images = Images::prepared();
    let registry = images.registry();
    let host = TestHost::empty();
    fs::create_dir_all(host.data()).unwrap();
    symlink(TestHost::with_image().data().join("kernel"), host.data().join("kernel")).unwrap();
    works(&host, &format!("{}/{INDEX}", registry.address), &[]);
    let code = "import os; print('Hello World', os.environ['PATH'])";
    let (status, answer) = host.request(&json!({ "language": "python", "code": code, "timeout": 60 }));
    assert_eq!(status, 0, "{answer}");
    assert_eq!(answer["stdout"], "Hello World /opt/tools:/usr/bin:/bin\n", "{answer}");
}
