//! `docs/commands.md`, from the definition of the command line.

use clap::{Arg, Command, CommandFactory as _};

use super::markdown::{anchor, cell, prose, push, table};

const INTRODUCTION: &str = "\
<!-- Written by `infra.operator reference commands`: change what is said in crates/cli/src/commands instead. -->

# Commands

Every command of `infra.operator`, with all of its flags. `infra.operator COMMAND --help` says the same.
";

/// The page.
pub(super) fn page() -> String {
    let mut root = crate::Arguments::command();
    // Gives subcommands the names by which they are called, and the flags of all commands.
    root.build();
    let mut page = format!("{INTRODUCTION}\n{}\n", description(&root));
    let mut rows = Vec::new();
    visit(&root, "", &mut |command, name| {
        if command.get_subcommands().next().is_none() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            rows.push(vec![format!("[`{name}`](#{})", anchor(name)), cell(&about)]);
        }
    });
    page += &table(&["command", "what it does"], &rows);
    page += "## Flags of all commands\n\n";
    page += &arguments(&root, Arg::is_global_set);
    visit(&root, "", &mut |command, name| {
        let level = if name.contains(' ') { "###" } else { "##" };
        push(&mut page, &format!("{level} `{name}`\n\n{}\n", description(command)));
        if command.get_subcommands().next().is_none() {
            push(&mut page, &format!("```text\n{}\n```\n\n", usage(command)));
            page += &arguments(command, |argument| !argument.is_global_set());
        }
        let more = command.get_after_long_help().or_else(|| command.get_after_help());
        page += &more.map(|more| examples(&more.to_string())).unwrap_or_default();
    });
    format!("{}\n", page.trim_end())
}

/// All commands beneath one, each with what it is called by, that are not hidden.
fn visit(command: &Command, above: &str, see: &mut impl FnMut(&Command, &str)) {
    let shown =
        command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    for command in shown {
        let name = format!("{above} {}", command.get_name());
        see(command, name.trim_start());
        visit(command, &name, see);
    }
}

fn description(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let about = prose(about.trim());
    let end = if about.ends_with('.') { "" } else { "." };
    format!("{about}{end}\n")
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").trim().to_owned()
}

fn arguments(command: &Command, wanted: impl Fn(&Arg) -> bool) -> String {
    let shown = command.get_arguments().filter(|argument| {
        let is_of_clap = ["help", "version"].contains(&argument.get_id().as_str());
        !argument.is_hide_set() && !is_of_clap && wanted(argument)
    });
    let rows: Vec<_> = shown.map(|argument| vec![spelling(argument), cell(&meaning(argument))]).collect();
    table(&["argument", "meaning"], &rows)
}

/// As it is typed: `-v`, `--verbose`, `--mem MIB`, `FILE`.
fn spelling(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let names = argument.get_value_names().unwrap_or_default();
    let value =
        names.iter().map(clap::builder::Str::as_str).collect::<Vec<_>>().join(" ").replace('|', r"\|");
    let value = if value.is_empty() { argument.get_id().as_str().to_uppercase() } else { value };
    if argument.is_positional() {
        return format!("`{value}`");
    }
    let short = argument.get_short().map(|short| format!("`-{short}`"));
    let value = if takes_value { format!(" {value}") } else { String::new() };
    let long = argument.get_long().map(|long| format!("`--{long}{value}`"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string);
    let mut meaning = help.unwrap_or_default().trim().to_owned();
    if !argument.is_hide_default_value_set() && argument.get_action().takes_values() {
        let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
        let defaults = defaults.collect::<Vec<_>>().join(" ");
        if !defaults.is_empty() {
            push(&mut meaning, &format!(" [default: {defaults}]"));
        }
    }
    // Keys of the configuration tell their variables themselves.
    let variable = argument.get_env().map(|variable| variable.to_string_lossy());
    if let Some(variable) = variable.filter(|variable| !meaning.contains(&**variable)) {
        push(&mut meaning, &format!(" [env: {variable}]"));
    }
    let values: Vec<_> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if values.is_empty() { meaning } else { format!("{meaning}: {}", values.join(", ")) }
}

/// What stands below the flags: lines that are set in are code, those after `Examples:` commands.
fn examples(text: &str) -> String {
    let mut shown = String::new();
    for part in text.trim().split("\n\n") {
        let lines: Vec<_> = part.lines().collect();
        let code = lines.iter().position(|line| line.starts_with("  ")).unwrap_or(lines.len());
        let end = lines.iter().rposition(|line| line.starts_with("  ")).map_or(lines.len(), |last| last + 1);
        let (words, code, rest) = (&lines[..code], &lines[code..end.max(code)], &lines[end.max(code)..]);
        let language = if words.last() == Some(&"Examples:") { "sh" } else { "text" };
        if !words.is_empty() {
            push(&mut shown, &format!("{}\n\n", prose(&words.join("\n"))));
        }
        if !code.is_empty() {
            let code: Vec<_> = code.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
            push(&mut shown, &format!("```{language}\n{}\n```\n\n", code.join("\n")));
        }
        if !rest.is_empty() {
            push(&mut shown, &format!("{}\n\n", prose(&rest.join("\n"))));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_flag_has_its_place() {
        let page = page();
        let mut root = crate::Arguments::command();
        root.build();
        let mut seen = 0;
        visit(&root, "", &mut |command, name| {
            seen += 1;
            let section = page.split_once(&format!("# `{name}`\n")).expect(name).1;
            let section = section.split("\n#").next().unwrap();
            let own = command
                .get_arguments()
                .filter(|argument| !argument.is_global_set() && !argument.is_hide_set());
            for argument in own.filter(|argument| argument.get_id() != "help") {
                assert!(section.contains(&spelling(argument)), "{name}: {}", argument.get_id());
            }
        });
        assert!(seen > 20, "{seen} commands");
        assert!(!page.contains("`reference`"), "hidden commands are not shown");
    }

    #[test]
    fn lines_that_are_set_in_are_code() {
        let shown = examples("Examples:\n  infra.operator run\n\nSent as one of:\n  a: <b>\nor not.");
        let expected = "Examples:\n\n```sh\ninfra.operator run\n```\n\nSent as one of:\n\n```text\na: <b>\n```\n\nor not.\n\n";
        assert_eq!(shown, expected);
    }
}
