//! The Debian package does what Debian's users expect: from its installation in a clean root to the last file that it removes.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use e2e::{
    TestHost,
    package::{CleanRoot, build},
    running::Ended,
    service::Service,
};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

const DATA: &str = "/var/lib/llm-firecracker";
const CONFIG: &str = "/etc/llm-firecracker/config.toml";
const USER: &str = "llm-firecracker";
const UNIT: &str = "/lib/systemd/system/llm-firecracker.service";

/// Where Debian enables both units.
const ENABLED: [&str; 2] = [
    "/etc/systemd/system/multi-user.target.wants/llm-firecracker.service",
    "/etc/systemd/system/sockets.target.wants/llm-firecracker.socket",
];

fn operator(root: &CleanRoot, arguments: &[&str]) -> Ended {
    root.ended(&[&["infra.operator"], arguments].concat())
}

fn install(root: &CleanRoot, package: &Path) {
    root.copy(package, "/root/package.deb").unwrap();
    root.expect_done(&["dpkg", "--install", "/root/package.deb"]);
}

/// Answers of the service, started as its unit starts it.
fn served(root: &CleanRoot, code: &str, token: Option<&str>) -> Value {
    let unit = fs::read_to_string(root.path(UNIT)).unwrap();
    let setting = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let (variable, value) = setting("Environment=")
        .split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .unwrap();
    let start = setting("ExecStart=");
    let mut arguments: Vec<&str> = start.split(' ').collect();
    arguments.extend(["--port", "0"]);
    let user = setting("User=");
    let mut command = root.command_of(&user, &arguments);
    command.env("HOME", DATA).env(variable, value).env("LLM_FIRECRACKER_API_REQUIRE_TOKENS", "true");
    let service = Service::start_command(&mut command).unwrap().with_token(token);
    let answer = service.python(code).json();
    let mut processes = service.running().process().descendants().into_iter();
    processes.find(|process| process.name.starts_with("infra.operator")).unwrap().signal(Signal::TERM);
    assert_eq!(service.end_within(PATIENCE).unwrap().code, 0);
    answer
}

/// As far as its work allows: the unit says what it does not.
fn the_units_are_valid_and_lock_the_service_up(root: &CleanRoot) {
    let mut verify = root.command(&["systemd-analyze", "verify", "--man=no", "llm-firecracker.service"]);
    let verified = Ended::new(&verify.env("SYSTEMD_LOG_TARGET", "console").output().unwrap());
    assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{verified:?}");
    // Exposure in tenths.
    let threshold = ["--offline=true", "--threshold=30", "llm-firecracker.service"];
    let judged = root.ended(&[&["systemd-analyze", "security"][..], &threshold].concat());
    assert_eq!(judged.code, 0, "{judged:?}");
    assert!(judged.stdout.contains("Overall exposure level"), "{judged:?}");
}

#[test]
fn it_is_installed_used_upgraded_removed_and_purged() {
    let packages = tempfile::tempdir().unwrap();
    let package = build("0.1.0-1", packages.path()).unwrap();
    let root = CleanRoot::for_package(&package).unwrap();
    install(&root, &package);
    assert_eq!(root.expect_done(&["id", "--name", "--groups", USER]), format!("{USER} kvm\n"));
    assert_eq!(
        root.expect_done(&["stat", "--format=%U %G %a", DATA, CONFIG]),
        format!("{USER} {USER} 750\nroot root 644\n")
    );
    for link in ENABLED {
        assert!(root.path(link).is_symlink(), "{link}");
    }
    the_units_are_valid_and_lock_the_service_up(&root);

    // The data, as the commands of this machine have made it.
    let host = TestHost::prepared();
    for part in ["images", "kernel", "snapshots"] {
        root.copy(&host.data().join(part), DATA).unwrap();
    }
    root.expect_done(&["chown", "--recursive", &format!("{USER}:"), DATA]);
    let answer = operator(&root, &["run", "--lang", "python", "--code", "print('Hello, World!')"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.json()["stdout"], "Hello, World!\n", "{answer:?}");
    assert!(!answer.stderr.contains("booting instead"), "{answer:?}");

    // Whatever root does there, the service can use it.
    let changed = ["rootfs", "customize", "--lang", "python", "--run", "echo changed > /etc/changed"];
    assert_eq!(operator(&root, &changed).code, 0);
    let read = ["run", "--lang", "python", "--code", "print(open('/etc/changed').read())"];
    let answer = operator(&root, &read);
    assert_eq!(answer.json()["stdout"], "changed\n", "{answer:?}");
    let made = operator(&root, &["token", "create", "--name", "test"]);
    assert_eq!(made.code, 0, "{made:?}");
    let token = made.stdout.trim();
    let strangers = root.expect_done(&["find", DATA, "!", "-user", USER]);
    assert_eq!(strangers, "", "not the service's");
    assert_eq!(served(&root, "print(6 * 7)", Some(token))["stdout"], "42\n");
    let answer = served(&root, "print(6 * 7)", None);
    assert_eq!(answer["error"], "E004: access_token missing");

    // Who becomes its user finds the same.
    let shown = |user: &str, home: &str| {
        let mut command = root.command_of(user, &["infra.operator", "config", "show", "data", "--json"]);
        Ended::new(&command.env("HOME", home).output().unwrap()).json().to_string()
    };
    assert!(shown(USER, DATA).contains(&format!("\"{DATA}\"")), "{}", shown(USER, DATA));
    assert!(shown("games", "/home/games").contains("/home/games/.local/share/llm-firecracker"));

    // What the administrator has written stays, and so does the data.
    let mut config = fs::File::options().append(true).open(root.path(CONFIG)).unwrap();
    config.write_all(b"\n# mine\n").unwrap();
    let newer = build("0.1.1-1", packages.path()).unwrap();
    install(&root, &newer);
    let version = root.expect_done(&["dpkg-query", "--show", "--showformat=${Version}", USER]);
    assert_eq!(version, "0.1.1-1");
    assert!(fs::read_to_string(root.path(CONFIG)).unwrap().ends_with("# mine\n"));
    assert_eq!(served(&root, "print(6 * 7)", Some(token))["stdout"], "42\n");

    root.expect_done(&["dpkg", "--remove", USER]);
    assert!(!root.path("/usr/bin/infra.operator").exists());
    for kept in ["service.sqlite3", "images/rootfs-python.ext4", "snapshots/python", "kernel/bundle.json"] {
        assert!(root.path(DATA).join(kept).exists(), "{kept}");
    }
    assert!(root.path(CONFIG).exists());

    fs::write(root.path("/etc/llm-firecracker/environment"), "AWS_ACCESS_KEY_ID=x\n").unwrap();
    // A file system that somebody has mounted in the data directory is theirs.
    let purge = format!(
        "set -e; mkdir {DATA}/mounted; mount -t tmpfs tmpfs {DATA}/mounted; touch {DATA}/mounted/file
         dpkg --purge {USER}
         test -e {DATA}/mounted/file; umount {DATA}/mounted; rmdir {DATA}/mounted {DATA}"
    );
    root.expect_done(&["sh", "-c", &purge]);
    let left = root.expect_done(&[
        "find",
        "/",
        "-xdev",
        "-name",
        "*llm-firecracker*",
        "-o",
        "-name",
        "infra.operator*",
    ]);
    assert_eq!(left, "", "left behind");
}

#[test]
fn the_same_program_gives_the_same_package_which_debians_checks_and_readers_of_manuals_take() {
    let packages = tempfile::tempdir().unwrap();
    let package = build("0.1.0-1", packages.path()).unwrap();
    let again = build("0.1.0-1", &packages.path().join("again")).unwrap();
    assert!(fs::read(&package).unwrap() == fs::read(&again).unwrap(), "the packages differ");
    let judged = Command::new("lintian")
        .args(["--allow-root", "--fail-on=error,warning"])
        .arg(&package)
        .output()
        .expect("there is lintian");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));

    let contents = packages.path().join("contents");
    let unpacked = Command::new("dpkg-deb").arg("--extract").args([&package, &contents]).status().unwrap();
    assert!(unpacked.success());
    let pages: Vec<_> =
        fs::read_dir(contents.join("usr/share/man/man1")).unwrap().map(|page| page.unwrap().path()).collect();
    let unpacked = Command::new("gunzip").args(&pages).status().unwrap();
    assert!(unpacked.success());
    let pages: Vec<_> = pages.iter().map(|page| page.with_extension("")).collect();
    let judged = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(&pages).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    for command in ["", "-run", "-api", "-snapshot-create", "-rootfs-from-docker", "-config-reference"] {
        let page = contents.join(format!("usr/share/man/man1/infra.operator{command}.1"));
        assert!(fs::metadata(&page).is_ok_and(|page| page.size() > 500), "{}", page.display());
    }

    // bash completes with it; zsh and fish have theirs where they look for it.
    let completions = contents.join("usr/share/bash-completion/completions/infra.operator");
    let completes = format!(
        "source {}; COMP_WORDS=(infra.operator snap); COMP_CWORD=1; _infra.operator infra.operator snap infra.operator
         echo \"${{COMPREPLY[*]}}\"",
        completions.display()
    );
    let output = Command::new("bash").args(["-c", &completes]).stderr(Stdio::inherit()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "snapshot\n");
    for (file, beginning) in [
        ("zsh/vendor-completions/_infra.operator", "#compdef infra.operator\n"),
        ("fish/vendor_completions.d/infra.operator.fish", "#"),
    ] {
        let script = fs::read_to_string(contents.join("usr/share").join(file)).unwrap();
        assert!(script.starts_with(beginning) && script.contains("snapshot"), "{file}");
    }
}
