//! The keys as documentation: a page in Markdown, and a file that says nothing but the defaults.

use std::fmt::Write as _;

use super::{
    key::{Fallback, Key, Kind, capital},
    table::SECTIONS,
};

/// The longest line of a comment in the example.
const WIDTH: usize = 100;

const INTRODUCTION: &str = "\
<!-- Written by `infra.operator config reference --format markdown`: change crates/cli/src/config/table.rs instead. -->

# Configuration

Every key below can be set in four ways. What stands further up wins:

| where | how |
|---|---|
| a flag | `--set SECTION.KEY=VALUE`, which can be repeated, or the key's own flag, where it has one, which wins |
| the environment | the key's variable; an empty one counts as not set |
| the file | TOML: `KEY = VALUE` below `[SECTION]` |
| nowhere | the default |

The file is the one that `--config FILE` or `LLM_FIRECRACKER_CONFIG` names, which has to be there; else
`/etc/llm-firecracker/config.toml` for root, and `$XDG_CONFIG_HOME/llm-firecracker/config.toml` (else
`~/.config/llm-firecracker/config.toml`) for others, which need not be there. All commands read it.

```sh
infra.operator config reference --format toml > config.toml   # every key, commented out, with its default
infra.operator config check config.toml                       # all faults, each with its line; status 2 where there are some
infra.operator config show                                    # each value, and where it comes from
infra.operator config show pool --set pool.maximum=4          # what it would be
```

A file with an unknown section or key, or with a value that is not allowed, is refused, with the nearest name. Durations
are whole seconds, sizes are MiB. `\"auto\"` leaves a value to the program. Paths in the file are absolute. Lists stand in
the environment with commas between: `A,B`. A variable that begins with `LLM_FIRECRACKER_` and belongs to no key is a
warning of `config check`.

The service reads all of it again at SIGHUP. Keys that say so change at once, and no request is dropped; changes of
others are named in the log and count after a restart. A file with faults changes nothing.
";

/// `docs/configuration.md`.
pub(crate) fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in &SECTIONS {
        push(&mut page, &format!("\n## `[{}]`\n\n{}\n", section.name, section.documentation));
        for key in section.keys {
            push(&mut page, &format!("\n### `{}`\n\n{}\n\n", key.name, key.documentation));
            push(&mut page, &format!("- {}\n", capital(&key.allowed())));
            push(&mut page, &format!("- default: {}\n", default_in_words(key, "`")));
            push(&mut page, &format!("- environment: {}\n", key.variables("`")));
            if let Some(flag) = key.flag {
                push(&mut page, &format!("- flag: `{flag}`\n"));
            }
            push(&mut page, &format!("- {}\n", change(key)));
            push(&mut page, &choices(key));
        }
    }
    page
}

/// A file in which every key stands commented out, with its default.
pub(crate) fn example() -> String {
    let mut file = String::new();
    let introduction = "Configuration of LLM-Firecracker. Every key stands here with its default: take the # away from \
                        a line that is to be changed. Flags and environment win over this file. Durations are whole \
                        seconds, sizes are MiB, paths are absolute. Check with: infra.operator config check FILE";
    comment(&mut file, introduction);
    for section in &SECTIONS {
        file.push('\n');
        comment(&mut file, section.documentation);
        push(&mut file, &format!("[{}]\n", section.name));
        for key in section.keys {
            file.push('\n');
            comment(&mut file, key.documentation);
            comment(
                &mut file,
                &format!("{}. Default: {}.", capital(&key.allowed()), default_in_words(key, "")),
            );
            comment(&mut file, &format!("Environment: {}. {}.", key.variables(""), capital(change(key))));
            push(&mut file, &format!("#{} = {}\n", key.short_name(), key.default()));
        }
    }
    file
}

fn push(text: &mut String, more: &str) {
    text.push_str(more);
}

fn default_in_words(key: &Key, quote: &str) -> String {
    let value = format!("{quote}{}{quote}", key.default());
    match key.fallback {
        Fallback::Auto(meaning) => format!("{value}: {meaning}"),
        _ => value,
    }
}

fn change(key: &Key) -> &'static str {
    if key.reloads { "changes at SIGHUP" } else { "a change needs a restart of the service" }
}

fn choices(key: &Key) -> String {
    let Kind::Choice(choices) = key.kind else { return String::new() };
    let mut lines = String::new();
    for value in choices() {
        if let Some(help) = value.get_help() {
            let _ = writeln!(lines, "- `\"{}\"`: {help}", value.get_name());
        }
    }
    lines
}

/// Writes a comment, in lines that are no longer than they need to be.
fn comment(file: &mut String, text: &str) {
    let mut line = "#".to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            push(file, &format!("{line}\n"));
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    push(file, &format!("{line}\n"));
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{Environment, Origin, Resolution, Source, Value, resolve, table},
        settings::Flags,
    };

    fn resolved(text: &str) -> Resolution {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        resolve(&Flags::default(), &Environment::of(&[]), &Source::Usual(file.path().to_owned()))
    }

    fn is_key(line: &str) -> bool {
        line.starts_with('#') && !line.starts_with("# ")
    }

    #[test]
    fn the_page_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == markdown(),
            "write it anew: cargo run -- config reference --format markdown > docs/configuration.md"
        );
    }

    #[test]
    fn every_key_is_told_of_and_no_variable_is_read_twice() {
        let (page, file) = (markdown(), example());
        let mut variables = HashSet::new();
        for key in table::keys() {
            assert!(page.contains(&format!("### `{}`", key.name)), "{}", key.name);
            assert!(file.contains(&format!("\n#{} = ", key.short_name())), "{}", key.name);
            assert!(key.documentation.ends_with('.'), "{}", key.name);
            let all = key.foreign.iter().map(ToString::to_string).chain([key.variable()]);
            all.for_each(|name| assert!(variables.insert(name.clone()), "{name}"));
            let section = key.name.split('.').next().unwrap();
            let of_section = SECTIONS.iter().find(|known| known.name == section).unwrap();
            assert!(of_section.keys.iter().any(|known| known.name == key.name), "{}", key.name);
        }
        assert_eq!(file.lines().filter(|line| is_key(line)).count(), table::keys().count());
        assert!(file.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn flags_that_documentation_names_are_there() {
        use clap::CommandFactory as _;
        let command = crate::Arguments::command();
        for (flag, key) in table::keys().filter_map(|key| Some((key.flag?, key))) {
            let argument = command.get_arguments().find(|argument| {
                argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long))
            });
            let help = argument.and_then(|argument| argument.get_help()).map(ToString::to_string);
            assert!(help.is_some_and(|help| help.contains(&key.variable())), "{flag}");
        }
        let of_flags = Flags::default().of_keys().map(|(name, _)| name);
        let of_table: Vec<&str> =
            table::keys().filter(|key| key.flag.is_some()).map(|key| key.name).collect();
        assert_eq!(of_flags.as_slice(), of_table);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whichever_lines_of_the_example_are_uncommented_the_defaults_stay(
            chosen in prop::collection::vec(any::<bool>(), table::keys().count()),
        ) {
            let mut numbers = chosen.iter();
            let mut uncommented = 0;
            let lines: Vec<String> = example()
                .lines()
                .map(|line| match line.strip_prefix('#') {
                    Some(setting) if is_key(line) && *numbers.next().unwrap() => {
                        uncommented += 1;
                        setting.to_owned()
                    }
                    _ => line.to_owned(),
                })
                .collect();
            let found = resolved(&lines.join("\n"));
            prop_assert!(found.faults.is_empty(), "{:?}", found.faults);
            let of_file = found.entries.values().filter(|entry| matches!(entry.origin, Origin::File(..)));
            prop_assert_eq!(of_file.count(), uncommented);
            for key in table::keys() {
                let entry = &found.entries[key.name];
                prop_assert_eq!(&entry.value, &key.default());
                // The line that is told is the one that the key stands in.
                if let Origin::File(_, Some(line)) = entry.origin {
                    let expected = format!("{} = ", key.short_name());
                    prop_assert!(lines[line - 1].starts_with(&expected));
                }
            }
        }

        #[test]
        fn whatever_text_a_value_is_it_is_read_as_it_was_written(text in any::<String>()) {
            let written = Value::Text(text.clone()).to_string();
            let read = toml::de::DeValue::parse(&written).unwrap();
            prop_assert_eq!(read.get_ref().as_str(), Some(text.as_str()));
        }

        #[test]
        fn numbers_are_accepted_in_their_range_and_nowhere_else(number in any::<u64>(), place in 0..50usize) {
            let numbers: Vec<_> = table::keys().filter(|key| matches!(key.kind, Kind::Number { .. })).collect();
            let key = numbers[place % numbers.len()];
            let Kind::Number { from, to, .. } = key.kind else { unreachable!() };
            let inside = from + number % (to - from + 1);
            for (number, expected) in [(inside, true), (from, true), (to, true), (to + 1, false), (number, (from..=to).contains(&number))] {
                let read = key.of_words(number.to_string().as_ref());
                prop_assert_eq!(read.is_ok(), expected, "{} = {}", key.name, number);
            }
        }

        #[test]
        fn no_file_is_too_odd_to_be_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, &bytes).unwrap();
            let source = Source::Usual(file.path().to_owned());
            let found = resolve(&Flags::default(), &Environment::of(&[]), &source);
            prop_assert_eq!(found.entries.len(), table::keys().count());
        }
    }
}
