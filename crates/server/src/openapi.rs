//! The `OpenAPI` document: from the routes, and for requests from the bounds that the engine and the protocol keep.

use engine::{
    Languages,
    request::{
        MEMORY_MIB, TIMEOUT_SECONDS,
        limits::{MAX_ARGS, MAX_EXECUTIONS, MAX_FETCH, MAX_FILE_NAME_BYTES, MAX_FILES, MAX_STDIN_BYTES},
    },
};
use serde_json::{Value, json};
use utoipa::{
    OpenApi, PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::routes;

/// What is said about all of it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "LLM-Firecracker",
        description = "Runs programs in microVMs, each request in one of its own that was restored from a snapshot.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "run", description = "Programs"),
        (name = "jobs", description = "Programs that are run later, and told of when they end"),
        (name = "languages", description = "What they may be written in"),
        (name = "images", description = "What microVMs have as their disk; for administrators"),
        (name = "snapshots", description = "What microVMs are restored from; for administrators"),
        (name = "operations", description = "Long work, followed and cancelled; for administrators"),
        (name = "status", description = "What the service does"),
        (name = "health", description = "For supervisors and load balancers; without a token"),
        (name = "piston", description = "The API of Piston, version 2, for its clients; can be switched off"),
        (name = "sandbox_fusion", description = "`run_code` of SandboxFusion, for its clients; can be switched off"),
        (name = "documentation", description = "This document, and a page that shows it; without a token"),
    ),
)]
struct Document;

/// The request of `run`, which [`engine::Request`] reads: its schema says what that takes.
pub(crate) struct RunRequest;

/// The request of `execute`: the same, with one stdin.
pub(crate) struct ExecuteRequest;

/// The request of Piston's `execute`, which [`crate::compatible::piston`] reads.
pub(crate) struct PistonRequest;

impl PartialSchema for PistonRequest {
    fn schema() -> RefOr<Schema> {
        RefOr::T(Schema::default())
    }
}

impl ToSchema for PistonRequest {}

impl PartialSchema for RunRequest {
    fn schema() -> RefOr<Schema> {
        RefOr::T(Schema::default())
    }
}

impl ToSchema for RunRequest {}

impl PartialSchema for ExecuteRequest {
    fn schema() -> RefOr<Schema> {
        RefOr::T(Schema::default())
    }
}

impl ToSchema for ExecuteRequest {}

/// The document, as JSON.
pub fn document() -> Value {
    let (_, described) = routes::all().split_for_parts();
    let document = Document::openapi().merge_from(described);
    let mut document = serde_json::to_value(&document).unwrap_or_default();
    let schemas = &mut document["components"]["schemas"];
    // utoipa's types cannot say all of it: patterns, `contains`, alternatives of required fields.
    schemas["RunRequest"] = request_schema(&stdin_of_run());
    schemas["ExecuteRequest"] =
        request_schema(&json!({ "type": ["string", "null"], "maxLength": MAX_STDIN_BYTES }));
    schemas["PistonRequest"] = piston_schema();
    say_more_of_administration(schemas);
    let items = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = items.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut());
    operations.filter_map(|operation| operation.get_mut("requestBody")).for_each(optional_body);
    document["components"]["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer" },
        "header": { "type": "apiKey", "in": "header", "name": "X-Access-Token" },
        "query": { "type": "apiKey", "in": "query", "name": "access_token" },
    });
    // The empty one: a service on this machine asks for no token.
    document["security"] = json!([{ "bearer": [] }, { "header": [] }, { "query": [] }, {}]);
    document
}

/// What utoipa cannot say of images and snapshots.
fn say_more_of_administration(schemas: &mut Value) {
    for list in ["Images", "Snapshots"] {
        // Empty lists are both.
        if let Some(alternatives) = schemas[list].as_object_mut().and_then(|schema| schema.remove("oneOf")) {
            schemas[list]["anyOf"] = alternatives;
        }
    }
    for creation in ["CreateImage", "CreateSnapshot"] {
        schemas[creation]["properties"]["language"]["enum"] = names(&Languages::built_in()).into();
    }
    schemas["CreateImage"]["properties"]["image"]["pattern"] = IMAGE_PATTERN.into();
    schemas["CreateImage"]["properties"]["image"]["maxLength"] = 255.into();
    for exchange in ["UploadImage", "DownloadImage", "UploadSnapshots", "DownloadSnapshots"] {
        schemas[exchange]["properties"]["bucket"]["pattern"] = BUCKET_PATTERN.into();
    }
}

/// What a request of Piston's API may say. What it does not know is left alone.
fn piston_schema() -> Value {
    let file = json!({
        "type": "object",
        "properties": {
            "name": { "type": ["string", "null"], "example": "main.py" },
            "content": { "type": "string", "example": "print(6 * 7)" },
            "encoding": { "type": ["string", "null"], "enum": ["utf8", "base64", "hex", null] },
        },
        "required": ["content"],
    });
    let number = |what: &str| json!({ "type": ["number", "null"], "description": what });
    json!({
        "type": "object",
        "properties": {
            "language": { "type": "string", "description": "A language of `runtimes`, or an alias.", "example": "python" },
            "version": { "type": "string", "description": "A SemVer selector: `*`, `3.x`, `3.11.2`.", "example": "*" },
            "files": { "type": "array", "items": file, "description": "The first that is `utf8` is the program.",
                "minItems": 1 },
            "stdin": { "type": ["string", "null"] },
            "args": { "type": ["array", "null"], "items": { "type": ["string", "number", "boolean"] } },
            "run_timeout": number("How long it may run, in milliseconds."),
            "compile_timeout": number("How long it may take to compile, in milliseconds."),
            "run_cpu_time": number("Bounded like run_timeout, which is what ends a program."),
            "compile_cpu_time": number("Bounded like compile_timeout."),
            "run_memory_limit": number("In bytes; -1 for none of its own."),
            "compile_memory_limit": number("In bytes; -1 for none of its own."),
        },
        "required": ["language", "version", "files"],
        "example": { "language": "python", "version": "*", "files": [{ "content": "print(6 * 7)" }] },
    })
}

/// A body that may be left out is nothing then; utoipa says that it may be null.
fn optional_body(body: &mut Value) {
    let Some(alternatives) =
        body.pointer("/content/application~1json/schema/oneOf").and_then(Value::as_array)
    else {
        return;
    };
    if let Some(schema) = alternatives.iter().find(|schema| schema["$ref"].is_string()).cloned() {
        body["content"]["application/json"]["schema"] = schema;
        body["required"] = false.into();
    }
}

/// All names under which languages are known.
fn names(languages: &Languages) -> Vec<String> {
    let names = languages
        .iter()
        .flat_map(|spec| std::iter::once(spec.name.to_string()).chain(spec.aliases.iter().cloned()));
    names.collect()
}

fn stdin_of_run() -> Value {
    json!({
        "description": "What the program reads. A list runs it once for each of its strings, and the answer is a list. \
            At most 1,000,000 bytes each, 8 MiB together; a service may have a lower limit of strings.",
        "oneOf": [
            { "type": "null" },
            { "type": "string", "maxLength": MAX_STDIN_BYTES },
            { "type": "array", "items": { "type": "string", "maxLength": MAX_STDIN_BYTES }, "minItems": 1,
              "maxItems": MAX_EXECUTIONS },
        ],
    })
}

/// What a request may say, for documents and their readers; [`engine::Request`] is what checks it.
fn request_schema(stdin: &Value) -> Value {
    let languages = Languages::built_in();
    let names = names(&languages);
    let nullable = |mut schema: Value| {
        schema["type"] = json!([schema["type"], "null"]);
        schema
    };
    let main_files: Vec<&str> = languages.iter().map(|spec| spec.main_file.as_str()).collect();
    let file = json!({
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "description": "A relative path without empty parts, `.` and `..`.",
                "minLength": 1,
                "maxLength": MAX_FILE_NAME_BYTES,
                "pattern": NAME_PATTERN,
                "example": "main.py",
            },
            "content": { "type": "string", "example": "print('Hello from Python!')" },
        },
        "required": ["name", "content"],
        "additionalProperties": false,
    });
    let files = json!({
        "type": "array",
        "description": "The program's files; 8 MiB together. One of them is the program, by the name that its \
            language says (main.py). No name is there twice, and none is both a file and a directory.",
        "items": file,
        "minItems": 1,
        "maxItems": MAX_FILES,
        "contains": { "type": "object", "properties": { "name": { "enum": main_files } }, "required": ["name"] },
    });
    let argument = json!({ "type": "string", "pattern": "^[^\\u0000]*$" });
    let arguments = json!({
        "type": "array", "description": "The program's arguments; 64 KiB together.",
        "items": argument, "maxItems": MAX_ARGS,
    });
    let timeout = json!({
        "type": "number", "description": "How long each execution may take, in seconds. Default: 10. A \
            service may have a lower limit.",
        "minimum": TIMEOUT_SECONDS.start(), "maximum": TIMEOUT_SECONDS.end(),
    });
    let memory = json!({
        "type": "integer", "description": "How much memory the microVM is to have, in MiB: the smallest snapshot that has \
            it is restored; where there is none, a microVM boots, which takes seconds. A service may have a lower \
            limit.",
        "minimum": MEMORY_MIB.start(), "maximum": MEMORY_MIB.end(),
    });
    let glob = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_FILE_NAME_BYTES, "pattern": GLOB_PATTERN, "example": "*.png",
    });
    let fetch = json!({
        "type": "array", "description": "Files that the program leaves and the answer is to hold: paths beneath the job \
            directory, or globs (`*`, `?`, `[…]`, `{a,b}`, `**` for directories too). At most 64 files, 4 MiB together.",
        "items": glob, "maxItems": MAX_FETCH,
    });
    json!({
        "type": "object",
        "properties": {
            "language": { "type": "string", "enum": names, "example": "python" },
            "files": nullable(files),
            "code": { "type": ["string", "null"], "description": "A single file, instead of `files`." },
            "stdin": stdin,
            "args": nullable(arguments),
            "timeout": nullable(timeout),
            "memory_mb": nullable(memory),
            "fetch": nullable(fetch),
        },
        "required": ["language"],
        "oneOf": [
            { "required": ["files"], "properties": { "files": { "type": "array" }, "code": { "type": "null" } } },
            { "required": ["code"], "properties": { "code": { "type": "string" }, "files": { "type": "null" } } },
        ],
        "additionalProperties": false,
        "example": {
            "language": "python",
            "files": [{ "name": "main.py", "content": "print('Hello from Python!')" }],
        },
    })
}

/// Relative, with no empty part and no part that is `.` or `..`; no NUL.
const NAME_PATTERN: &str = r"^(?!/)(?!.*//)(?!(.*/)?\.{1,2}(/|$))(?!.*/$)[^\u0000]+$";

/// The same, maybe with `./` before it, and with no `!` at its beginning.
const GLOB_PATTERN: &str = r"^(\./)?(?![!/])(?!.*//)(?!(.*/)?\.{1,2}(/|$))(?!.*/$)[^\u0000]+$";

/// What [`crate::operations::RegistryImage`] takes: `[registry/]name[/name…][:tag][@digest]`, and no file of the host.
const IMAGE_PATTERN: &str = concat!(
    r"^(?!oci:|oci-archive:|docker-archive:)(docker://)?",
    r"((([A-Za-z0-9][A-Za-z0-9-]*\.[A-Za-z0-9.-]*|localhost|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?|[a-z0-9][a-z0-9-]*:[0-9]{1,5})/",
    r"|(?![^/]*\.[^/]*/))",
    r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*",
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$",
);

/// What [`crate::operations::BucketName`] takes.
const BUCKET_PATTERN: &str = r"^(?!.*\.\.)[a-z0-9][a-z0-9.-]*[a-z0-9]$";
