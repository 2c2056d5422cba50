//! Over microVMs that are tasks: see `vmm::fake::script` for what their programs are.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::request::decoded;

use crate::{
    fake::{Answer, Lab},
    tokens::{Authority, Grant, Register},
};

async fn execute(lab: &Lab, body: &Value) -> Answer {
    lab.ask("POST", "/api/v2/execute", &body.to_string()).await
}

/// The message of a request that is refused.
async fn refused(lab: &Lab, body: &Value) -> String {
    let answer = execute(lab, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    answer.json()["message"].as_str().unwrap().to_owned()
}

fn program(content: &str) -> Value {
    json!({ "language": "py", "version": "*", "files": [{ "content": content }] })
}

fn with(key: &str, value: Value) -> Value {
    let mut body = program("print a");
    body[key] = value;
    body
}

#[tokio::test]
async fn a_program_is_run_and_told_as_its_clients_know_it() {
    let lab = Lab::new().await;
    let mut answer = execute(&lab, &program("print a\nerror b\nprint c\nexit 3")).await.json();
    for varies in ["cpu_time", "wall_time", "memory"] {
        assert!(answer["run"][varies].take().is_number(), "{varies}");
    }
    assert_eq!(
        answer,
        json!({
            "language": "python", "version": "3.11.2",
            "run": { "stdout": "a\nc\n", "stderr": "b\n", "output": "a\nb\nc\n", "code": 3, "signal": null,
                "message": "Exited with error status 3", "status": "RE",
                "cpu_time": null, "wall_time": null, "memory": null },
        })
    );
    for (content, code, signal, status) in [
        ("print a", json!(0), Value::Null, Value::Null),
        ("signal 11", Value::Null, json!("SIGSEGV"), json!("SG")),
        ("memory", Value::Null, json!("SIGKILL"), json!("SG")),
        ("flood 3000000", Value::Null, json!("SIGKILL"), json!("OL")),
    ] {
        let run = execute(&lab, &program(content)).await.json()["run"].clone();
        assert_eq!((&run["code"], &run["signal"], &run["status"]), (&code, &signal, &status), "{content}");
    }
    let slow = json!({ "language": "python", "version": "3", "run_timeout": 50, "files": [{ "content": "sleep 9999" }] });
    let run = execute(&lab, &slow).await.json()["run"].clone();
    assert_eq!((&run["status"], &run["signal"]), (&json!("TO"), &json!("SIGKILL")));
}

#[tokio::test]
async fn everything_is_refused_in_the_words_of_the_original() {
    let lab = Lab::new().await;
    let without = |key: &str| {
        let mut body = program("print a");
        body.as_object_mut().unwrap().remove(key);
        body
    };
    insta::assert_snapshot!(
        [
            refused(&lab, &json!([])).await,
            refused(&lab, &without("language")).await,
            refused(&lab, &with("language", json!(7))).await,
            refused(&lab, &without("version")).await,
            refused(&lab, &with("version", json!(""))).await,
            refused(&lab, &without("files")).await,
            refused(&lab, &with("files", json!({}))).await,
            refused(&lab, &with("files", json!([{ "name": "a" }]))).await,
            refused(&lab, &with("files", json!([]))).await,
            refused(&lab, &with("files", json!([null, "text", 1, ["a", "b", "c"]]))).await,
            refused(&lab, &with("files", json!([{ "content": "", "encoding": "hex" }]))).await,
            refused(&lab, &with("files", json!([{ "content": "", "name": "../../x" }]))).await,
            refused(&lab, &with("language", json!("cobol"))).await,
            refused(&lab, &with("version", json!("2.x"))).await,
            refused(&lab, &with("version", json!("nonsense"))).await,
            refused(&lab, &with("run_timeout", json!("1"))).await,
            refused(&lab, &with("run_timeout", json!(3001))).await,
            refused(&lab, &with("run_timeout", json!(-1))).await,
            refused(&lab, &with("compile_timeout", json!(10001))).await,
            refused(&lab, &with("run_cpu_time", json!(3001))).await,
            refused(&lab, &with("run_memory_limit", json!(1e15))).await,
            refused(&lab, &with("args", json!("a"))).await,
            refused(&lab, &with("stdin", json!(1))).await,
        ]
        .join("\n")
    );
    let answer = lab.ask("POST", "/api/v2/execute", "{").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.json()["message"].as_str().unwrap().starts_with("the body is not JSON"));
}

#[tokio::test]
async fn what_clients_leave_out_or_say_carelessly_is_taken() {
    let lab = Lab::new().await;
    for body in [
        with("args", Value::Null),
        with("stdin", Value::Null),
        with("run_timeout", json!(0)),
        with("run_timeout", Value::Null),
        with("run_memory_limit", json!(-1)),
        with("compile_memory_limit", json!(-1)),
        with("version", json!("3.x")),
        with("version", json!(">=3.10 <4")),
        with("unknown", json!({ "a": 1 })),
        with("files", json!([{ "name": null, "content": "print a", "encoding": null }])),
        with("files", json!([{ "name": "", "content": "print a", "encoding": "latin1" }])),
        with("files", json!([{ "name": "/a/../program.py", "content": "print a" }])),
    ] {
        let answer = execute(&lab, &body).await;
        assert_eq!(answer.json()["run"]["stdout"], "a\n", "{body}: {answer:?}");
    }
    for path in ["/api/v2/execute/", "/api/v2/piston/execute", "/api/v2/piston/execute/"] {
        for media_type in
            ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"]
        {
            let headers = [("content-type", media_type)];
            let answer = lab.ask_with("POST", path, &program("print a").to_string(), &headers).await;
            assert_eq!(answer.json()["run"]["stdout"], "a\n", "{path} {media_type}");
        }
    }
    for path in
        ["/api/v2/runtimes", "/api/v2/runtimes/", "/api/v2/piston/runtimes", "/api/v2/piston/runtimes/"]
    {
        let runtimes = lab.ask("GET", path, "").await.json();
        assert_eq!(
            runtimes,
            json!([{ "language": "python", "version": "3.11.2", "aliases": ["py", "python3"] }])
        );
    }
    let packages = lab.ask("GET", "/api/v2/packages", "").await.json();
    assert_eq!(packages, json!([{ "language": "python", "language_version": "3.11.2", "installed": true }]));
}

#[tokio::test]
async fn the_first_text_is_the_program_whatever_its_name_and_the_others_lie_beside_it() {
    let lab = Lab::new().await;
    let run = async |files: Value| execute(&lab, &with("files", files)).await.json()["run"]["stdout"].clone();
    let file = |name: &str, content: &str| json!({ "name": name, "content": content });
    assert_eq!(run(json!([file("cool.py", "print cool")])).await, "cool\n");
    assert_eq!(run(json!([file("a.py", "print a"), file("b.py", "print b")])).await, "a\n");
    assert_eq!(run(json!([file("a.py", "print a"), file("main.py", "print main")])).await, "a\n");
    assert_eq!(run(json!([file("main.py", "print old"), file("main.py", "print new")])).await, "new\n");
    let encoded = json!([
        { "name": "data.bin", "content": "AP8", "encoding": "base64" },
        { "name": "more.bin", "content": "00ff", "encoding": "hex" },
        { "name": "p.py", "content": "print p" },
    ]);
    assert_eq!(run(encoded).await, "p\n");
    // Node stops at what is no pair of digits; a sign is none.
    assert_eq!(decoded("00ff+1", "hex"), [0, 0xff]);
}

#[tokio::test]
async fn arguments_and_stdin_reach_the_program() {
    let lab = Lab::new().await;
    let mut body = program("args\nstdin");
    body["args"] = json!(["1", 2, true]);
    for (stdin, read) in
        [(json!("input"), "input\n"), (json!("input\n"), "input\n"), (json!(""), "\n"), (Value::Null, "\n")]
    {
        body["stdin"] = stdin;
        assert_eq!(execute(&lab, &body).await.json()["run"]["stdout"], format!("1 2 true\n{read}"));
    }
}

#[tokio::test]
async fn small_things_in_great_number_are_refused_while_they_are_read() {
    let lab = Lab::new().await;
    let started = std::time::Instant::now();
    for (key, item) in [("files", r#"{"content":""}"#), ("args", "0"), ("unknown", r#"{"a":[{}]}"#)] {
        let items = vec![item; 1_000_000].join(",");
        let body = format!(
            r#"{{"language":"python","version":"2.x","files":[{{"content":""}}],"{key}":[{items}]}}"#
        );
        let answer = lab.ask("POST", "/api/v2/execute", &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    }
    // Every pair of a million files took hours.
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_value_of_any_kind_in_any_field_is_answered() {
    let lab = Lab::new().await;
    let kinds = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("99999999999999999999.x || >=v - * ~~^"),
        json!([]),
        json!([[[]]]),
        json!({}),
        json!({ "content": [], "name": {}, "encoding": 1 }),
    ];
    let fields = [
        "language",
        "version",
        "files",
        "args",
        "stdin",
        "run_timeout",
        "compile_timeout",
        "run_cpu_time",
        "compile_cpu_time",
        "run_memory_limit",
        "compile_memory_limit",
    ];
    for field in fields {
        for kind in &kinds {
            for value in [kind.clone(), json!([kind])] {
                let body = with(field, value);
                let answer = execute(&lab, &body).await;
                assert!([200, 400].contains(&answer.status.as_u16()), "{body}: {answer:?}");
                let told = answer.json();
                assert!(told["run"].is_object() || told["message"].is_string(), "{body}: {answer:?}");
            }
        }
    }
    for body in ["null", "1", "\"text\"", "[[]]", "{\"files\":"] {
        assert_eq!(lab.ask("POST", "/api/v2/execute", body).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn a_token_is_taken_with_its_scheme_and_without() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("service.db");
    let grant = Grant::unlimited("client".parse().unwrap());
    let token = Register::open(&database).unwrap().create(&grant).unwrap().text.reveal();
    let lab = Lab::with(Some(Authority::open(&database).unwrap())).await;
    let body = program("print a").to_string();
    for (authorization, status) in [
        (token.clone(), StatusCode::OK),
        (format!("Bearer {token}"), StatusCode::OK),
        ("wrong".to_owned(), StatusCode::UNAUTHORIZED),
        (format!("Basic {token}"), StatusCode::UNAUTHORIZED),
        (String::new(), StatusCode::UNAUTHORIZED),
    ] {
        let headers = [("authorization", authorization.as_str())];
        for (method, path) in [("GET", "/api/v2/runtimes"), ("POST", "/api/v2/piston/execute")] {
            let answer = lab.ask_with(method, path, &body, &headers).await;
            assert_eq!(answer.status, status, "{path} {authorization}: {answer:?}");
        }
    }
    // Elsewhere a scheme is asked for, as ever.
    let headers = [("authorization", token.as_str())];
    assert_eq!(lab.ask_with("GET", "/api/v1/languages", "", &headers).await.status, StatusCode::UNAUTHORIZED);
}
