//! What differs between two configurations, and whether a running service can take it over.

use super::{Config, table};

/// Keys whose values differ.
#[derive(Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "for the command that serves"))]
pub(crate) struct Changes {
    /// Those that count from now on.
    pub(crate) taken_over: Vec<&'static str>,
    /// Those that count after a restart only.
    pub(crate) need_restart: Vec<&'static str>,
}

impl Config {
    /// What differs in a configuration that was loaded later. Where a value comes from makes no difference.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the command that serves"))]
    pub(crate) fn changes(&self, later: &Self) -> Changes {
        let mut changes = Changes::default();
        for key in table::keys() {
            let value = |config: &Self| config.entries.get(key.name).map(|entry| entry.value.clone());
            if value(self) != value(later) {
                let list = if key.reloads { &mut changes.taken_over } else { &mut changes.need_restart };
                list.push(key.name);
            }
        }
        changes
    }
}
