//! Bounds that both ends keep.

/// The largest frame body, in bytes. It holds the largest request and the largest report:
/// the asserts below say how.
pub const MAX_FRAME_BYTES: usize = 24 << 20;

/// The most files in one request.
pub const MAX_FILES: usize = 256;

/// The most bytes that the files of one request hold together.
pub const MAX_FILES_BYTES: usize = 8 << 20;

/// The longest file name, in bytes, and the longest of its components, as Linux has them (`NAME_MAX`).
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// The longest stdin of one execution, in bytes.
pub const MAX_STDIN_BYTES: usize = 1_000_000;

/// The longest trace id, in bytes: a UUID with its hyphens, or the 32 digits of a W3C trace.
pub const MAX_TRACE_ID_BYTES: usize = 64;

/// The most executions in one batch.
pub const MAX_EXECUTIONS: usize = 1_000;

/// The most bytes of all stdins of a batch together.
pub const MAX_BATCH_STDIN_BYTES: usize = 8 << 20;

/// The most command-line arguments, and the most bytes in all of them.
pub const MAX_ARGS: usize = 256;
/// See [`MAX_ARGS`].
pub const MAX_ARGS_BYTES: usize = 64 << 10;

/// What is kept of each output stream unless a request says otherwise, in bytes.
pub const DEFAULT_OUTPUT_BYTES: usize = 1 << 20;

/// The most that a request may ask to keep of each output stream, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 8 << 20;

/// The most bytes of output, or of input, in one message of an execution that runs.
pub const MAX_CHUNK_BYTES: usize = 64 << 10;

/// The most paths and globs that a run may fetch, each of at most [`MAX_FILE_NAME_BYTES`] bytes.
pub const MAX_FETCH: usize = 32;

/// The most patterns that one glob may stand for, once its braces are written out: as many as fit one group. Several groups
/// multiply, and each pattern is tried on each name.
pub const MAX_ALTERNATIVES: usize = MAX_FILE_NAME_BYTES.div_ceil(2);

/// The most files that one execution returns.
pub const MAX_FETCHED: usize = 64;

/// The most notes on files that one execution does not return.
pub const MAX_OMITTED: usize = 64;

/// The most bytes of the files that one execution returns, together.
pub const MAX_FETCHED_BYTES: usize = 4 << 20;

/// How much entropy a reseed carries, in bytes: twice the kernel's key size.
pub const ENTROPY_BYTES: usize = 64;

/// The size of base64 text for `bytes` bytes.
const fn base64(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// JSON around one file, stdin or report: names, quotes, commas, numbers.
const OVERHEAD: usize = 1 << 10;

// The largest report (both streams) and the largest request (files and stdins) fit a frame.
const _: () = assert!(2 * base64(MAX_OUTPUT_BYTES) + OVERHEAD <= MAX_FRAME_BYTES);
const _: () = assert!(base64(MAX_FETCHED_BYTES) + OVERHEAD <= MAX_FRAME_BYTES);
const _: () = assert!(
    base64(MAX_FILES_BYTES)
        + base64(MAX_BATCH_STDIN_BYTES)
        + MAX_ARGS_BYTES * 6
        + (MAX_FILES + MAX_EXECUTIONS) * 8
        + MAX_FILES * OVERHEAD
        + MAX_FETCH * MAX_FILE_NAME_BYTES * 6
        <= MAX_FRAME_BYTES
);
