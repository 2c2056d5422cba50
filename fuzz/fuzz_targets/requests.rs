//! What clients send: bodies of our own API, of jobs, of Piston's and of SandboxFusion's, messages of Piston's WebSocket, and
//! heads, which begin with `/`.

#![no_main]

use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

use engine::{
    Request,
    request::{
        MEMORY_MIB, Stdin, TIMEOUT_SECONDS,
        limits::{
            MAX_ARGS, MAX_ARGS_BYTES, MAX_BATCH_STDIN_BYTES, MAX_EXECUTIONS, MAX_FETCH, MAX_FILE_NAME_BYTES,
            MAX_FILES, MAX_FILES_BYTES, MAX_STDIN_BYTES,
        },
    },
};
use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = (4 << 20) + 256 * data.len();
    if data.starts_with(b"/") {
        within_memory(bytes, || server::fuzzing::head(data));
        return;
    }
    within_memory(bytes, || server::fuzzing::message(data));
    for request in within_memory(bytes, || server::fuzzing::bodies(data)) {
        obeys(&request);
    }
});

/// What is said of requests holds of this one.
fn obeys(request: &Request) {
    let Request { language, files, args, stdin, timeout, memory_mib, fetch, main_file, usage: _ } = request;
    assert!((1..=MAX_FILES).contains(&files.len()));
    assert!(files.iter().map(|file| file.content.0.len()).sum::<usize>() <= MAX_FILES_BYTES);
    assert!(
        files.iter().map(|file| &file.name).chain(fetch).all(|name| is_beneath(name)),
        "{files:?} {fetch:?}"
    );
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names.len(), files.len(), "a file is there twice");
    for name in &names {
        let mut parents = name.match_indices('/').map(|(end, _)| &name[..end]);
        assert!(!parents.any(|parent| names.contains(parent)), "{name:?} is beneath a file");
    }
    let main = main_file.as_deref().unwrap_or(&language.main_file);
    assert!(names.contains(main), "{main:?} is missing");
    assert!(args.len() <= MAX_ARGS && args.iter().map(String::len).sum::<usize>() <= MAX_ARGS_BYTES);
    assert!(!args.iter().any(|arg| arg.contains('\0')));
    let all = stdin.all();
    assert!(
        (1..=MAX_EXECUTIONS).contains(&all.len()) && (all.len() == 1 || matches!(stdin, Stdin::Batch(_)))
    );
    assert!(all.iter().all(|stdin| stdin.len() <= MAX_STDIN_BYTES));
    assert!(all.iter().map(String::len).sum::<usize>() <= MAX_BATCH_STDIN_BYTES);
    assert!(!timeout.is_zero() && timeout.as_secs_f64() <= *TIMEOUT_SECONDS.end());
    assert!(memory_mib.is_none_or(|mib| MEMORY_MIB.contains(&mib)));
    assert!(fetch.len() <= MAX_FETCH);
}

/// Whether a name leads to something beneath the directory that it is looked up in, and is written in one way alone.
fn is_beneath(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    parts.all(|part| matches!(part, Component::Normal(_)))
        && !name.is_empty()
        && name.len() <= MAX_FILE_NAME_BYTES
        && !name.contains('\0')
        && name.split('/').all(|part| !part.is_empty() && part != ".")
}
