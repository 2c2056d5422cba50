//! What differs between two configurations, and whether a running service can take it over.

use super::{Config, table};

/// Keys whose values differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Those that count from now on.
    pub(crate) taken_over: Vec<&'static str>,
    /// Those that count after a restart only.
    pub(crate) need_restart: Vec<&'static str>,
}

impl Config {
    /// What differs in a configuration that was loaded later. Where a value comes from makes no difference.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Environment, Source, resolve},
        settings::Flags,
    };

    fn config(set: &[&str], variables: &[(&str, &str)]) -> Config {
        let flags = Flags::setting(set);
        Config::of(resolve(&flags, &Environment::of(variables), &Source::Nowhere)).unwrap()
    }

    #[test]
    fn what_changed_counts_now_or_after_a_restart() {
        let before = config(&["pool.maximum=4"], &[]);
        let after = config(&["pool.maximum=5", "api.port=1", "log.level=debug", "data.directory=/a"], &[]);
        let expected = Changes {
            taken_over: vec!["pool.maximum", "log.level"],
            need_restart: vec!["data.directory", "api.port"],
        };
        assert_eq!(before.changes(&after), expected);
        assert_eq!(after.changes(&before), expected);
    }

    #[test]
    fn the_same_value_from_elsewhere_is_no_change() {
        let before = config(&[], &[]);
        let after = config(&["api.port=8080"], &[("LLM_FIRECRACKER_POOL_MINIMUM", "1")]);
        assert_eq!(before.changes(&after), Changes::default());
    }
}
