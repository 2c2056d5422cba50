//! What the documentation says of commands, flags, endpoints, keys and variables is what there is. For tests alone: whether links lead
//! somewhere is for `cargo xtask lint`, and whether requests are answered as is shown for the tests of `e2e`.

mod pages;
mod shell;

use std::{collections::BTreeSet, path::Path};

use clap::{Command, CommandFactory as _};
use serde_json::Value;

use self::pages::{Page, Place};
use crate::{
    config::{Environment, Source, resolve},
    settings::Flags,
};

/// Where a service listens in examples.
const SERVICES: [&str; 3] = ["http://127.0.0.1:8080", "http://localhost:8080", "https://runner.example"];

/// A fault, with its place.
fn told(page: &Page, place: &Place, fault: &str) -> String {
    format!("{}:{}: {}: {fault}", page.name, place.line, place.text.lines().next().unwrap_or_default())
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "the documentation is wrong:\n{}", faults.join("\n"));
}

/// The command line, with the flags of all commands in each.
fn command_line() -> Command {
    let mut command = crate::Arguments::command();
    command.build();
    command
}

/// The words after the program's name, where it is what a command of a shell runs.
fn arguments(words: &[String]) -> Option<&[String]> {
    const MOVES_FILES: [&str; 5] = ["install", "cp", "mv", "rm", "command"];
    let first = words.first()?.rsplit('/').next()?;
    let program =
        words.iter().position(|word| word == "infra.operator" || word.ends_with("/infra.operator"))?;
    (!MOVES_FILES.contains(&first)).then(|| &words[program + 1..])
}

/// Whether a reader is to put something else in its place, as in `…`, `$NAME`, `SHA256`, or to have such a file.
fn is_left_open(word: &str) -> bool {
    let is_in_capitals = word.len() > 2
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    word.contains(['…', '$']) || is_in_capitals || word == "template.json"
}

/// Why a command line is not one. Where something is left open, only names are looked at.
fn fault_of(root: &Command, words: &[String]) -> Option<String> {
    if words.is_empty() || words.iter().any(|word| is_left_open(word)) {
        return fault_of_names(root, words);
    }
    let typed = std::iter::once("infra.operator").chain(words.iter().map(String::as_str));
    match root.clone().try_get_matches_from(typed) {
        Ok(_) => None,
        Err(error) if !error.use_stderr() => None,
        Err(error) => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// The same of names alone: of commands, as far as they go, and of flags.
fn fault_of_names(root: &Command, words: &[String]) -> Option<String> {
    let mut command = root;
    for word in words {
        if let Some(flag) = word.strip_prefix("--") {
            let name = flag.split('=').next().unwrap_or_default().trim_end_matches(['…', ',']);
            let is_known =
                name.is_empty() || command.get_arguments().any(|argument| argument.get_long() == Some(name));
            if !is_known && !["help", "version"].contains(&name) {
                return Some(format!("{} has no flag --{name}", command.get_name()));
            }
        } else if command.has_subcommands() && !is_left_open(word) {
            match command.find_subcommand(word) {
                Some(found) => command = found,
                // It may be the value of a flag before the command.
                None if command.get_name() == "infra.operator" && words[0].starts_with("--") => {}
                None => return Some(format!("{} has no command {word}", command.get_name())),
            }
        }
    }
    None
}

#[test]
fn commands_in_blocks_are_commands_with_flags_that_there_are() {
    let (root, mut faults, mut seen) = (command_line(), Vec::new(), 0);
    for page in pages::all() {
        for place in page.blocks(&["sh", "bash"]) {
            for words in shell::commands(&place.text) {
                let Some(arguments) = arguments(&words) else { continue };
                seen += 1;
                faults.extend(
                    fault_of(&root, arguments)
                        .map(|fault| told(&page, &place, &format!("{arguments:?}: {fault}"))),
                );
            }
        }
    }
    none(&faults);
    assert!(seen > 80, "{seen} commands");
}

#[test]
fn commands_in_sentences_are_commands_with_flags_that_there_are() {
    let (root, mut faults, mut seen) = (command_line(), Vec::new(), 0);
    let names: BTreeSet<_> = root.get_subcommands().map(Command::get_name).collect();
    for page in pages::all() {
        for place in page.code() {
            let Some(words) = shell::commands(&place.text).into_iter().next() else { continue };
            // Without the program's name it is one of ours if it has a flag, or a second word.
            let arguments = match arguments(&words) {
                Some(arguments) => arguments,
                None if names.contains(words[0].as_str())
                    && words.len() > 1
                    && words[1].starts_with("--") =>
                {
                    &words[..]
                }
                None => continue,
            };
            seen += 1;
            faults.extend(fault_of_names(&root, arguments).map(|fault| told(&page, &place, &fault)));
        }
    }
    none(&faults);
    assert!(seen > 30, "{seen} commands");
}

/// Whether the document has this method of this path. What stands in braces, or is a variable of a shell, is anything.
fn is_endpoint(document: &Value, method: &str, path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let is_open = |part: &str| part.starts_with(['{', '$', '…']);
    let fits = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        template.clone().count() == path.clone().count()
            && template
                .zip(path)
                .all(|(wanted, part)| wanted == part || is_open(wanted) && !part.is_empty() || is_open(part))
    };
    let mut paths = document["paths"].as_object().into_iter().flatten();
    paths.any(|(template, item)| fits(template) && item.get(method.to_lowercase()).is_some())
}

#[test]
fn what_curl_asks_for_is_an_endpoint() {
    let (document, mut faults, mut seen) = (server::document(), Vec::new(), 0);
    for page in pages::all() {
        let places = page.blocks(&["sh", "bash"]).into_iter().chain(page.code());
        for place in places {
            for words in shell::commands(&place.text).into_iter().filter(|words| words[0] == "curl") {
                let Some(path) = words
                    .iter()
                    .find_map(|word| SERVICES.iter().find_map(|service| word.strip_prefix(service)))
                else {
                    continue;
                };
                let named = words.iter().position(|word| word == "-X" || word == "--request");
                let sends = ["-d", "--data", "--data-binary", "--json"];
                let has_body = words.iter().any(|word| sends.contains(&word.as_str()));
                let method = named
                    .and_then(|place| words.get(place + 1))
                    .map_or(if has_body { "POST" } else { "GET" }, String::as_str);
                seen += 1;
                let path = if path.is_empty() { "/" } else { path };
                if !is_endpoint(&document, method, path) {
                    faults.push(told(&page, &place, &format!("there is no {method} {path}")));
                }
            }
        }
    }
    none(&faults);
    assert!(seen > 20, "{seen} calls");
}

#[test]
fn endpoints_that_sentences_name_are_there() {
    const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let (document, mut faults, mut seen) = (server::document(), Vec::new(), 0);
    for page in pages::all() {
        for place in page.code() {
            let Some((method, path)) = place.text.split_once(' ') else { continue };
            if METHODS.contains(&method) && path.starts_with('/') && !path.contains(' ') {
                seen += 1;
                if !is_endpoint(&document, method, path) {
                    faults.push(told(&page, &place, "there is no such endpoint"));
                }
            }
        }
    }
    none(&faults);
    assert!(seen > 20, "{seen} endpoints");
}

/// The variables that belong to a flag of one command, and to no key.
fn variables_of_flags(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env());
    let own = own.map(|variable| variable.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables_of_flags)).collect()
}

#[test]
fn keys_and_variables_that_are_named_are_there() {
    const FILES: [&str; 8] = ["rs", "md", "json", "toml", "sqlite3", "yaml", "js", "css"];
    let nothing = Source::Usual("/nonexistent".into());
    let known = resolve(&Flags::default(), &Environment::of(&[]), &nothing).entries;
    let of_flags = variables_of_flags(&command_line());
    let sections: BTreeSet<_> = known.keys().filter_map(|key| key.split('.').next()).collect();
    let (mut faults, mut seen) = (Vec::new(), 0);
    for page in pages::all() {
        for place in page.code() {
            let key: String =
                place.text.chars().take_while(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.')).collect();
            let Some((section, name)) = key.split_once('.') else { continue };
            let rest = &place.text[key.len()..];
            let is_of_keys = rest.is_empty() || rest.starts_with([' ', '=']);
            if sections.contains(section) && is_of_keys && !name.is_empty() && !FILES.contains(&name) {
                seen += 1;
                if !known.contains_key(key.as_str()) {
                    faults.push(told(&page, &place, &format!("there is no key {key}")));
                }
            }
        }
        for place in page.variables().into_iter().filter(|place| !of_flags.contains(&place.text)) {
            let environment = Environment::of(&[(place.text.as_str(), "1")]);
            let warnings = resolve(&Flags::default(), &environment, &nothing).warnings;
            faults.extend(warnings.iter().map(|warning| told(&page, &place, &warning.to_string())));
        }
    }
    none(&faults);
    assert!(seen > 40, "{seen} keys");
}

#[test]
fn files_of_configuration_that_are_shown_have_no_fault() {
    let (mut faults, mut seen) = (Vec::new(), 0);
    for page in pages::all() {
        for place in page.blocks(&["toml"]) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &place.text).unwrap();
            let found =
                resolve(&Flags::default(), &Environment::of(&[]), &Source::Usual(file.path().to_owned()));
            seen += 1;
            faults.extend(found.faults.iter().map(|fault| told(&page, &place, &fault.to_string())));
        }
    }
    none(&faults);
    assert!(seen > 0, "no file is shown");
}

#[test]
fn what_is_not_there_is_noticed() {
    let root = command_line();
    let fault = |command: &str| {
        let words = shell::commands(command).remove(0);
        fault_of(&root, arguments(&words).unwrap())
    };
    assert_eq!(fault("sudo --user=x infra.operator run --lang python --code 'print(1)'"), None);
    assert!(fault("infra.operator run --language python --code 1").unwrap().contains("--language"));
    assert!(fault("infra.operator rootfs make --lang python").is_some());
    assert!(fault("infra.operator api --port 99999999").is_some());
    assert!(
        fault("infra.operator host --snapshots --cpu-template template.json …")
            .unwrap()
            .contains("--snapshots")
    );
    assert!(fault("infra.operator snapsot …").is_some());
    let document = server::document();
    assert!(is_endpoint(&document, "DELETE", "/api/v1/operations/$ID"));
    assert!(!is_endpoint(&document, "PUT", "/api/v1/run"));
    assert!(!is_endpoint(&document, "GET", "/api/v1/nothing"));
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").is_dir());
}
