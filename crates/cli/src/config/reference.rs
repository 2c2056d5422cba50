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
            push(&mut page, &format!("- environment: {}\n", variables(key, "`")));
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
            comment(&mut file, &format!("Environment: {}. {}.", variables(key, ""), capital(change(key))));
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

fn variables(key: &Key, quote: &str) -> String {
    let own = format!("{quote}{}{quote}", key.variable());
    key.foreign.iter().fold(own, |mut names, name| {
        // Writing to a text cannot fail.
        let _ = write!(names, ", else {quote}{name}{quote}");
        names
    })
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
