//! What the targets have in common: how much memory an input takes while it is judged.
//!
//! Every target asserts a bound of it. libFuzzer's own limit is of the whole process and of no use here: what is kept from
//! one input to the next counts for it, and an input of a kilobyte may take a gigabyte unseen.

mod sys;

/// Does some work, which may take so many bytes of memory at a time.
///
/// # Panics
/// Where it takes more.
pub fn within_memory<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let (done, most) = sys::measured(work);
    assert!(most <= bytes, "{most} bytes of memory, which are more than {bytes}");
    done
}
