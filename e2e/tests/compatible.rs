//! Published clients of the APIs of others, unmodified, on a real service.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use e2e::{TestHost, service::Service};
use serde_json::json;

/// From the registries of Python and Node: their versions are fixed, so that these tests say the same every day.
const PYTHON_CLIENTS: [&str; 2] = ["sandbox-fusion==0.3.7", "aiopyston==1.2.1"];
const NODE_CLIENTS: [&str; 2] = ["piston-client@1.0.2", "piston-api-client@2.0.1"];

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    output
}

/// A directory of the build's with what `fill` puts there once.
fn installed(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let complete = directory.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        fill(&directory);
        fs::write(complete, "").unwrap();
    }
    directory
}

#[test]
fn clients_written_in_python_get_what_they_expect() {
    let clients = installed(&format!("clients-{}", PYTHON_CLIENTS.join("-")), |directory| {
        succeed(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(directory));
        let pip = directory.join("bin/pip");
        succeed(
            Command::new(pip)
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .args(PYTHON_CLIENTS),
        );
    });
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compatible/clients.py");
    let base = format!("http://{}", service.address());
    let ran = succeed(Command::new(clients.join("bin/python3")).arg(script).arg(base));
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "all answered as they expect\n");
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn clients_written_in_javascript_get_what_they_expect() {
    let clients = installed(&format!("clients-{}", NODE_CLIENTS.join("-")), |directory| {
        succeed(
            Command::new("npm")
                .args([
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--ignore-scripts",
                    "--loglevel",
                    "error",
                    "--prefix",
                ])
                .arg(directory)
                .args(NODE_CLIENTS),
        );
    });
    // Node looks for modules beside the program.
    let script = clients.join("clients.mjs");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compatible/clients.mjs"), &script).unwrap();
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let ran = succeed(Command::new("node").arg(script).arg(format!("http://{}", service.address())));
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "all answered as they expect\n");
    assert_eq!(service.stop().unwrap().code, 0);
}

#[test]
fn an_api_that_is_switched_off_is_not_there() {
    let host = TestHost::prepared().copy();
    let mut command = Service::command(&host, &[]);
    command
        .env("LLM_FIRECRACKER_PISTON_ENABLED", "false")
        .env("LLM_FIRECRACKER_SANDBOX_FUSION_ENABLED", "false");
    let service = Service::start_command(&mut command).unwrap();
    for path in ["/api/v2/runtimes", "/api/v2/piston/runtimes", "/api/v2/connect"] {
        assert_eq!(service.get(path).status, 404, "{path}");
    }
    assert_eq!(service.post("/run_code", &json!({})).status, 404);
    assert_eq!(service.get("/api/v1/languages").status, 200);
    assert_eq!(service.stop().unwrap().code, 0);
}
