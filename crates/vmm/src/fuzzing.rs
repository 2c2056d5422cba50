//! What fuzzing needs of this crate: see `fuzz/`. Not part of its interface.
