//! The routes: what they refuse, who may ask, and that the `OpenAPI` document says all of it.

use std::{collections::BTreeSet, fs, path::Path};

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::{
    fake::Lab,
    tokens::{Authority, Grant, Register},
};

const JSON: (&str, &str) = ("content-type", "application/json");
const HOST: (&str, &str) = ("host", "127.0.0.1:8080");

/// Each operation of the document: its method, its path and what is said of it.
fn documented() -> Vec<(String, String, Value)> {
    let document = crate::document();
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    operations.collect()
}

#[tokio::test]
async fn what_an_operator_alone_may_name_is_refused() {
    let lab = Lab::new().await;
    let create = "/api/v1/rootfs";
    for (path, body, reason) in [
        (
            create,
            json!({ "language": "python", "image": "oci:/srv/image" }),
            "image: only images of registries",
        ),
        (
            create,
            json!({ "language": "python", "image": "docker-archive:x.tar" }),
            "image: only images of registries",
        ),
        (create, json!({ "language": "python", "image": "--output=/etc/passwd" }), "image: "),
        (create, json!({ "language": "python", "output": "/etc/passwd" }), "unknown field `output`"),
        (create, json!({ "language": "python", "size_mib": 0 }), "size_mib: not within"),
        (create, json!({ "language": "--help" }), "E006: unsupported language --help"),
        (create, json!({ "language": "../etc" }), "E006: unsupported language ../etc"),
        (create, json!({}), "missing field `language`"),
        (create, json!(["python"]), "a JSON object is asked for"),
        ("/api/v1/rootfs/python/upload", json!({ "bucket": "file:///etc" }), "bucket: "),
        ("/api/v1/rootfs/python/upload", json!({ "bucket": "s3://other/prefix" }), "bucket: "),
        ("/api/v1/rootfs/python/download", json!({ "bucket": "--endpoint" }), "bucket: "),
        ("/api/v1/rootfs/python/download", json!({ "digest": "abc" }), "digest: "),
        (
            "/api/v1/snapshots",
            json!({ "language": "python", "memory_mb": 64 }),
            "memory_mb: not within 128 to 65536",
        ),
        ("/api/v1/snapshots", json!({ "language": "python", "vcpus": 17 }), "vcpus: not within 1 to 16"),
        ("/api/v1/snapshots", json!({ "language": "python", "vcpus": -1 }), "vcpus: -1 is no whole number"),
        ("/api/v1/snapshots/python/upload", json!({ "if_available": true }), "unknown field `if_available`"),
    ] {
        let answer = lab.ask("POST", path, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body}: {answer:?}");
        assert!(answer.error().contains(reason), "{path} {body}: {answer:?}");
    }
    for path in [
        "/api/v1/rootfs/cobol/upload",
        "/api/v1/snapshots/..%2f..%2fetc/download",
        "/api/v1/rootfs/--all/upload",
    ] {
        let answer = lab.ask("POST", path, "{}").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
        assert!(answer.error().starts_with("E006: unsupported language"), "{answer:?}");
    }
    assert!(lab.performer.begun.lock().unwrap().is_empty());
}

#[tokio::test]
async fn lists_say_what_there_is_and_why_not() {
    let lab = Lab::new().await;
    let images = lab.ask("GET", "/api/v1/rootfs?remote=false", "").await.json();
    assert_eq!(images[0]["source"], json!({ "kind": "oci", "image": "python:3.12", "manifest": "a" }));
    for query in ["remote=true&bucket=llm-firecracker", "bucket=llm-firecracker"] {
        assert_eq!(lab.ask("GET", &format!("/api/v1/rootfs?{query}"), "").await.json(), json!([]), "{query}");
    }
    let failed = lab.ask("GET", "/api/v1/snapshots", "").await;
    assert_eq!(
        (failed.status.as_u16(), failed.error().as_str()),
        (500, "E010: there are no snapshots today")
    );
    for query in ["remote=true", "remote=yes", "bucket=", "remote=true&bucket=file:///etc"] {
        let refused = lab.ask("GET", &format!("/api/v1/rootfs?{query}"), "").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}: {refused:?}");
        assert!(refused.error().starts_with("E007: invalid request: "), "{refused:?}");
    }
}

#[tokio::test]
async fn without_tokens_web_pages_of_others_may_do_nothing() {
    let lab = Lab::new().await;
    let body = r#"{"language": "python"}"#;
    for headers in [
        vec![HOST, JSON, ("origin", "http://evil.example")],
        vec![("host", "evil.example:8080"), JSON],
        vec![HOST, ("content-type", "text/plain")],
        vec![HOST, JSON, ("sec-fetch-site", "cross-site")],
    ] {
        let answer = lab.ask_with("POST", "/api/v1/snapshots", body, &headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}: {answer:?}");
        assert!(answer.error().starts_with("E011: not allowed: "), "{answer:?}");
    }
    for path in ["/api/v1/rootfs", "/api/v1/snapshots", "/api/v1/operations", "/api/v1/operations/x"] {
        let answer = lab.ask_with("GET", path, "", &[("host", "evil.example:8080")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {answer:?}");
    }
    assert!(lab.performer.begun.lock().unwrap().is_empty());
    let answer = lab.ask_with("POST", "/api/v1/snapshots", body, &[HOST, JSON]).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn with_tokens_administrators_alone_may() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("service.db");
    let mut register = Register::open(&database).unwrap();
    let grant = |name: &str, admin| Grant { admin, ..Grant::unlimited(name.parse().unwrap()) };
    let plain = register.create(&grant("plain", false)).unwrap().text.reveal();
    let admin = register.create(&grant("admin", true)).unwrap().text.reveal();
    let lab = Lab::with(Some(Authority::open(&database).unwrap())).await;
    for (method, path, _) in documented() {
        let is_guarded = ["rootfs", "snapshots", "operations"].iter().any(|what| path.contains(what));
        if !is_guarded {
            continue;
        }
        let path = path.replace("{lang}", "python").replace("{id}", "x");
        let ask = |token: &str| vec![("authorization", format!("Bearer {token}"))];
        for (headers, status) in [
            (vec![], StatusCode::UNAUTHORIZED),
            (ask("wrong"), StatusCode::UNAUTHORIZED),
            (ask(&plain), StatusCode::FORBIDDEN),
        ] {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = lab.ask_with(&method, &path, "{}", &headers).await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        }
    }
    let bearer = format!("Bearer {admin}");
    // Wherever it comes from: only whoever has the token can send it.
    let headers = [("authorization", bearer.as_str()), ("host", "service.example")];
    let answer = lab.ask_with("POST", "/api/v1/snapshots", r#"{"language": "python"}"#, &headers).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

#[tokio::test]
async fn every_documented_operation_is_there_and_answers_as_documented() {
    let lab = Lab::new().await;
    lab.performer.may_end.add_permits(100);
    for (method, path, operation) in documented() {
        let path = path
            .replace("{lang}", "python")
            .replace("{id}", "x")
            .replace("{part}", if path.starts_with("/docs") { "docs.js" } else { "page.js" });
        let body = if method == "POST" { "{}" } else { "" };
        let answer = lab.ask(&method, &path, body).await;
        let said = &operation["responses"][answer.status.as_str()];
        assert!(said.is_object(), "{method} {path}: {} is not documented", answer.status);
        assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert!(!answer.text.contains("no such path"), "{method} {path}: {answer:?}");
        let media_type = answer.headers.get("content-type").map(|value| value.to_str().unwrap());
        if let (Some(content), Some(media_type)) = (said["content"].as_object(), media_type) {
            let media_type = media_type.split(';').next().unwrap();
            assert!(content.contains_key(media_type), "{method} {path}: {media_type} is not documented");
        }
    }
}

#[test]
fn every_handler_is_in_the_document() {
    let sources = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes")).unwrap();
    let mut handlers = 0;
    for source in sources {
        let path = source.unwrap().path();
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        handlers += text.matches("#[utoipa::path(").count();
        // It would be served, and nobody would know: but another name of one that is documented may be added.
        for added in text.split(".route(").skip(1) {
            let handler =
                added.split_once("))").and_then(|(call, _)| call.rsplit('(').next()).unwrap_or_default();
            let is_documented = text.contains(&format!("routes!({handler})"));
            assert!(is_documented, "{}: {handler} is added with routes!", path.display());
        }
    }
    let documented = documented();
    assert_eq!(handlers, documented.len(), "a handler is not in routes::all()");
    let ids: BTreeSet<_> =
        documented.iter().map(|(_, _, operation)| operation["operationId"].to_string()).collect();
    assert_eq!(ids.len(), documented.len(), "two operations have the same id: {ids:?}");
}

#[test]
fn the_document_in_the_source_tree_is_that_of_the_code() {
    let written = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert!(written == crate::document(), "run: cargo xtask openapi");
}

#[tokio::test]
async fn the_page_has_all_that_it_needs_and_may_use_nothing_else() {
    let lab = Lab::new().await;
    let page = lab.ask("GET", "/docs", "").await;
    for path in ["/docs", "/docs/docs.js", "/docs/docs.css", "/api/v1/openapi.json"] {
        let answer = lab.ask("GET", path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert!(
            !answer.text.contains("http://") && !answer.text.contains("https://"),
            "{path} names another host"
        );
        assert!(path == "/docs" || page.text.contains(path), "{path} is not used");
    }
    assert!(!page.text.contains("style=") && !page.text.contains("<script>"), "the policy forbids it");
    assert_eq!(lab.ask("GET", "/docs/other", "").await.error(), "E012: not found: no such path");
}
