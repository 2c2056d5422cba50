//! Flags that are about one key: their help and checks are the key's.

use std::ffi::OsString;

use clap::builder::{
    OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser as _, ValueParser,
};

use super::{
    key::{Fallback, Key, Kind, capital},
    table,
};

/// What takes the value of the flag about this key.
pub(crate) fn parser(name: &'static str) -> ValueParser {
    let key = of_table(name);
    let parse = move |words: OsString| key.of_words(&words);
    match key.kind {
        Kind::Choice(choices) => {
            let auto = match key.fallback {
                Fallback::Auto(meaning) => Some(PossibleValue::new("auto").help(capital(meaning))),
                _ => None,
            };
            let values = choices().into_iter().chain(auto);
            PossibleValuesParser::new(values).try_map(move |word| parse(word.into())).into()
        }
        _ => OsStringValueParser::new().try_map(parse).into(),
    }
}

/// What help says of the flag about this key.
pub(crate) fn help(name: &'static str) -> String {
    let key = of_table(name);
    let default = match key.fallback {
        Fallback::Auto(meaning) => format!(" [default: {meaning}]"),
        Fallback::Flag(on) => format!(" [default: {on}]"),
        Fallback::Number(number) => format!(" [default: {number}]"),
        Fallback::Text("") | Fallback::Nothing => String::new(),
        Fallback::Text(text) => format!(" [default: {text}]"),
    };
    format!("{}{default} [env: {}]", key.documentation.trim_end_matches('.'), key.variables(""))
}

fn of_table(name: &'static str) -> &'static Key {
    table::find(name)
        .expect("every flag about a key names one of the table: tests make the whole command line")
}
