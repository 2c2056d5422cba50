//! What fuzzing needs of this crate: see `fuzz/`. Not part of its interface.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use engine::{Languages, Request, live::Input};
use nodejs_semver::Version;

use crate::{
    caller::presented,
    compatible::{Runtime, piston, sandbox_fusion},
    routes,
    settings::{PistonLimits, Policy},
    trace::{ParentSpan, TraceId},
};

/// What is asked of no host.
static KNOWN: LazyLock<(Languages, Vec<Runtime>)> = LazyLock::new(|| {
    let languages = Languages::built_in();
    let version: Version = "3.11.2".parse().expect("it is a version");
    let runtimes =
        languages.iter().map(|language| Runtime { language: language.clone(), version: version.clone() });
    let runtimes = runtimes.collect();
    (languages, runtimes)
});

/// Reads a body as each API does. What came of it, of those that took it for a request.
pub fn bodies(body: &[u8]) -> Vec<Request> {
    let (languages, runtimes) = &*KNOWN;
    let policy = Policy::default();
    let ours = Request::from_json(body, languages).ok();
    let job = routes::fuzz_body(body, languages);
    let piston = piston::request::understand(body, runtimes, &PistonLimits::default(), &policy).ok();
    let piston = piston.map(|understood| understood.with_line_end().request);
    let fusion = sandbox_fusion::read(body).and_then(|run| {
        let language = languages.iter().next().expect("there is a language");
        sandbox_fusion::understand_in(language, run, |mib| mib % 2 == 0, &policy)
    });
    let fusion = fusion.ok().map(|understood| understood.request);
    [ours, job, piston, fusion].into_iter().flatten().collect()
}

/// Reads a message of Piston's WebSocket.
///
/// # Panics
/// Where a program would get what it may not.
pub fn message(bytes: &[u8]) {
    match piston::connect::fuzz_message(bytes) {
        Some(Input::Bytes(input)) => assert!((1..=bytes.len()).contains(&input.len())),
        Some(Input::Signal(signal)) => assert!((1..=31).contains(&signal)),
        Some(Input::End) => unreachable!("the API has no end of stdin"),
        None => {}
    }
}

/// Reads lines as the head of a request: a path with its query, then headers.
///
/// # Panics
/// Where something came of it that would do harm in logs.
pub fn head(lines: &[u8]) {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
    };
    let headers: HeaderMap = lines.filter_map(header).collect();
    let TraceId(trace_id) = TraceId::of(&headers);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    assert!((1..=64).contains(&trace_id.len()) && trace_id.bytes().all(is_plain), "{trace_id:?}");
    if let Some(ParentSpan { trace_id: of_parent, span_id, .. }) = ParentSpan::of(&headers) {
        assert!(of_parent != 0 && span_id != 0 && trace_id == format!("{of_parent:032x}"));
    }
    let _ = presented(&headers, &uri);
    routes::fuzz_head(&uri, &headers);
}
