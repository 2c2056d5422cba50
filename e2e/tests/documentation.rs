//! The documentation is right, word by word: its commands are typed, and its requests sent, as they stand there.

use std::{
    env,
    fmt::Write as _,
    fs, iter,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use e2e::{
    TestHost,
    documentation::{Block, blocks, differences, is_as_shown},
    load::client::{Connection, Target},
    program,
    running::{Ended, Running},
    service::Service,
};
use serde_json::{Value, json};

/// How long all commands of a page may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Blocks with a remark that begins so are not tried.
const NOT_TRIED: &str = "not tried: ";

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether nothing says that it is not to be tried.
fn is_to_be_tried(block: &Block) -> bool {
    !block.remark.as_deref().is_some_and(|remark| remark.starts_with(NOT_TRIED))
}

fn is_tried(block: &Block) -> bool {
    block.language == "sh" && is_to_be_tried(block)
}

/// What shells see of the network.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    /// That of the host.
    OfHost,
    /// One of their own, so that the service's usual port is free.
    OfTheirOwn,
}

/// The commands of all blocks as one script, since what one leaves in the shell is there for the next; and before each block
/// a line that says which it is.
fn script(blocks: &[Block], network: Network) -> String {
    // What runs in the background ends with the script, however that ends.
    let mut script = "trap 'jobs -p | xargs --no-run-if-empty kill; wait' EXIT\n".to_owned();
    if network == Network::OfTheirOwn {
        script += "ip link set lo up\n";
    }
    for (number, block) in blocks.iter().enumerate().filter(|(_, block)| is_tried(block)) {
        write!(script, "echo '@@ {number}' | tee /dev/stderr\n{}", block.text)
            .expect("memory can be written");
    }
    script
}

/// What each block has written to stdout, by its number.
fn outputs(stdout: &str) -> Vec<(usize, String)> {
    let parts = stdout.split("@@ ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(number, output)| (number.parse().expect("a number"), output.to_owned())).collect()
}

/// Types the commands of these blocks into one shell, in `directory`, and returns what each has written to stdout. The program is what
/// it is called in the documentation.
fn typed(
    blocks: &[Block],
    host: &TestHost,
    directory: &Path,
    network: Network,
    variables: &[(&str, &Path)],
) -> (Vec<(usize, String)>, Ended) {
    fs::create_dir(directory.join("bin")).unwrap();
    symlink(program(), directory.join("bin/infra.operator")).unwrap();
    fs::write(directory.join("steps"), script(blocks, network)).unwrap();
    let starts: &[&str] = match network {
        Network::OfHost => &["env"],
        Network::OfTheirOwn => &["unshare", "--net"],
    };
    let mut command = Command::new(starts[0]);
    command.args(&starts[1..]).args(["bash", "-euo", "pipefail", "steps"]).current_dir(directory);
    for (name, value) in host.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let ended = Running::start(command.envs(variables.iter().copied())).end_within(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "the commands of a block have failed: {}\n{}", ended.stdout, ended.stderr);
    let outputs = outputs(&ended.stdout);
    assert_eq!(outputs.len(), blocks.iter().filter(|block| is_tried(block)).count());
    (outputs, ended)
}

#[test]
fn the_first_steps_are_walked_as_they_are_told() {
    let host = TestHost::prepared().copy();
    // As after `make quickstart` in a checkout.
    let checkout = tempfile::tempdir().unwrap();
    let blocks = blocks(&page("first-steps.md"));
    let not_tried = blocks.iter().filter(|block| block.language == "sh" && !is_tried(block)).count();
    assert!(not_tried <= 3, "{not_tried} blocks are not tried");
    let data = [("LLM_FIRECRACKER_DATA_DIR", host.data())];
    let (outputs, ended) = typed(&blocks, &host, checkout.path(), Network::OfTheirOwn, &data);
    let mut compared = 0;
    for (number, output) in outputs {
        let Some(shown) = blocks.get(number + 1) else { continue };
        let wrong = match shown.language.as_str() {
            "json" => {
                let answer =
                    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
                differences(&serde_json::from_str(&shown.text).unwrap(), &answer)
            }
            "text" if !is_as_shown(&shown.text, &output) => vec![output],
            "text" => Vec::new(),
            _ => continue,
        };
        compared += 1;
        assert!(
            wrong.is_empty(),
            "first-steps.md, line {}: {}\n{}",
            shown.line,
            wrong.join("\n"),
            ended.stderr
        );
    }
    assert!(compared >= 8, "{compared} outputs are shown");
}

#[test]
fn a_backup_is_made_and_restored_as_it_is_told() {
    let host = TestHost::prepared().copy();
    host.expect_done(&["token", "create", "--name", "kept"]);
    // What a service has written and not yet moved from its log.
    let service = Service::start(&host, &["--set", "api.require_tokens=true"]).unwrap();
    let refused = service.python("print(1)");
    assert_eq!(refused.status, 401, "{refused:?}");
    host.expect_done(&["token", "create", "--name", "late"]);
    let restored = TestHost::empty();
    let directory = tempfile::tempdir().unwrap();
    let all = blocks(&page("operation.md"));
    let titled = |title: &str| {
        let of_title = all.iter().filter(|block| block.remark.as_deref() == Some(&format!("tried: {title}")));
        let blocks: Vec<_> = of_title.cloned().collect();
        assert_eq!(blocks.len(), 1, "{title}");
        blocks
    };
    let path = env::var_os("PATH").expect("there is a path");
    let path = env::join_paths(iter::once("bin".into()).chain(env::split_paths(&path))).unwrap();
    let path = ("PATH", Path::new(&path));
    let of = |name: &str| {
        let place = directory.path().join(name);
        fs::create_dir(&place).unwrap();
        place
    };
    let backup = directory.path().join("backup");
    typed(
        &titled("backup"),
        &host,
        &of("first"),
        Network::OfHost,
        &[("DATA", host.data()), ("BACKUP", &backup), path],
    );
    assert_eq!(service.stop().unwrap().code, 0);
    let variables = [("DATA", restored.data()), ("BACKUP", backup.as_path()), path];
    let (outputs, _) = typed(&titled("restore"), &restored, &of("second"), Network::OfHost, &variables);
    for name in ["kept", "late"] {
        assert!(outputs[0].1.contains(name), "{outputs:?}");
    }
    assert_eq!(restored.python("print(6 * 7)")["stdout"], "42\n");
}

/// A request of a page and what it is answered, as titles say: `Request` is for `/api/v1/run`, `Request to PATH` for another;
/// `Response` has status 200, `Response STATUS` another; `Events` is a stream.
#[test]
fn the_python_pages_own_requests_are_answered_as_it_shows() {
    let host = TestHost::prepared().copy();
    let service = Service::start(&host, &[]).unwrap();
    let blocks = blocks(&page("python.md"));
    let mut wrong = Vec::new();
    let mut tried = 0;
    for pair in blocks.windows(2) {
        let [request, response] = pair else { continue };
        let Some(title) = request.title.as_deref().and_then(|title| title.strip_prefix("Request")) else {
            continue;
        };
        if !is_to_be_tried(request) {
            continue;
        }
        let path = title.strip_prefix(" to ").unwrap_or("/api/v1/run");
        let body: Value = serde_json::from_str(&request.text)
            .unwrap_or_else(|error| panic!("python.md, line {}: {error}", request.line));
        let since = Instant::now();
        let found = match response.title.as_deref() {
            Some("Events") => compare_events(&service, path, &body, &response.text),
            Some(title) => {
                let status = title.strip_prefix("Response ").map_or(200, |status| status.parse().unwrap());
                let answered = service.post(path, &body);
                let shown = serde_json::from_str(&response.text)
                    .unwrap_or_else(|error| panic!("python.md, line {}: {error}", response.line));
                let mut found = differences(&shown, &answered.json());
                if answered.status != status {
                    found.push(format!("the status is {}", answered.status));
                }
                found
            }
            None => panic!("python.md, line {}: a request without an answer", request.line),
        };
        tried += 1;
        wrong.extend(found.iter().map(|what| format!("python.md, line {}: {what}", response.line)));
        assert!(since.elapsed() < Duration::from_secs(60), "python.md, line {}", request.line);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried >= 20, "{tried} requests");
    assert_eq!(service.stop().unwrap().code, 0);
}

/// In what a stream differs from what is shown. Chunks of one kind that follow each other count as one: how a pipe cuts is
/// nobody's promise.
fn compare_events(service: &Service, path: &str, body: &Value, shown: &str) -> Vec<String> {
    let target = Target { address: service.address(), token: None };
    let events = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut connection = Connection::open(&target).await.unwrap();
        connection.stream(path, body).await.unwrap().rest().await.unwrap()
    });
    let got: Vec<Value> = events.into_iter().map(|event| json!([event.name, event.data])).collect();
    let shown: Vec<Value> = shown
        .split("\n\n")
        .map(|event| {
            let (name, data) = event.trim().split_once("\ndata: ").expect("a name and data");
            let data: Value = serde_json::from_str(data).expect("data is JSON");
            json!([name.strip_prefix("event: ").expect("a name"), data])
        })
        .collect();
    differences(&Value::Array(shown), &Value::Array(got))
}
