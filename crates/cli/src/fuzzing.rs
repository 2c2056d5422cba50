//! What fuzzing needs of this crate: see `fuzz/`. Not part of its interface.

use crate::config::{self, Config, Origin};

/// Reads a configuration file, and where it is right writes it anew.
///
/// # Panics
/// Where a key has no value, a fault has no place or no words, or what was written is not what was read.
pub fn configuration(text: &str) {
    let found = config::fuzz_resolve(text);
    let lines = text.split('\n').count();
    for fault in &found.faults {
        let row = fault.row();
        assert!(row.line.is_none_or(|line| (1..=lines).contains(&line)), "{fault} of {lines} lines");
        let shown = fault.to_string();
        assert!(shown.len() < MAX_FAULT_BYTES + text.len() && !shown.contains('\u{1b}'), "{shown:?}");
    }
    let is_right = found.faults.is_empty();
    let mut written = String::new();
    for (name, entry) in &found.entries {
        let (section, key) = name.split_once('.').expect("a key has a section");
        // What nobody has said need not be allowed to be said: an empty text, no path.
        if matches!(entry.origin, Origin::File(..)) {
            written += &format!("[{section}]\n");
            written += &format!("{key} = {}\n", entry.value);
        }
    }
    let values: Vec<_> = found.entries.iter().map(|(name, entry)| (*name, entry.value.clone())).collect();
    match Config::of(found) {
        Ok(_) => assert!(is_right, "a configuration with faults is used"),
        Err(_) => assert!(!is_right, "a configuration without faults is refused"),
    }
    if is_right {
        let again = config::fuzz_resolve(&one_of_each_section(&written));
        assert!(again.faults.is_empty(), "{:?} of {written}", again.faults);
        assert!(values.into_iter().eq(again.entries.into_iter().map(|(name, entry)| (name, entry.value))));
    }
}

/// The longest words about a fault, besides what they repeat of the file.
const MAX_FAULT_BYTES: usize = 4 << 10;

/// Entries come in the order of their names, so a section's are together: its name is needed once.
fn one_of_each_section(written: &str) -> String {
    let mut last = "";
    written
        .lines()
        .filter(|line| !line.starts_with('[') || std::mem::replace(&mut last, line) != *line)
        .fold(String::new(), |text, line| text + line + "\n")
}
