//! What texts of the configuration are checked for, and words of a choice.

use std::net::IpAddr;

use clap::{ValueEnum, builder::PossibleValue};
use images::oci::registry::Mirror;
use store::remote::BucketAddress;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// The words of an enum, each with what its doc comment says.
pub(super) fn choices<T: ValueEnum>() -> Vec<PossibleValue> {
    T::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect()
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<(), String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => {
            Err("this is no IP address, as in \"127.0.0.1\", \"0.0.0.0\" (all of IPv4) or \"::\" (all)"
                .to_owned())
        }
    }
}

/// Levels for all modules, or for some.
pub(super) fn log_level(text: &str) -> Result<(), String> {
    // A filter takes any other word for the name of a module, of which it then tells everything.
    let is_level = |word: &str| {
        let names_level = !word.is_empty() && word.parse::<LevelFilter>().is_ok();
        names_level || word.contains(['=', '[', ']', '{', '}'])
    };
    if let Some(word) = text.split(',').find(|word| !is_level(word.trim())) {
        return Err(format!("{word:?} is none of error, warn, info, debug and trace"));
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error} (as in \"info\" or \"info,engine=debug\")")),
    }
}

/// A bucket.
pub(super) fn bucket(text: &str) -> Result<(), String> {
    text.parse::<BucketAddress>().map(|_| ()).map_err(|error| error.to_string())
}

/// A mirror of a registry.
pub(super) fn mirror(text: &str) -> Result<(), String> {
    if text.contains('@') {
        // It is not repeated: what stands before the @ may be a password.
        return Err("an address of a mirror has no credentials in it".to_owned());
    }
    text.parse::<Mirror>().map(|_| ())
}

/// The address of a server.
pub(super) fn endpoint(text: &str) -> Result<(), String> {
    crate::bucket::endpoint(text).map(|_| ())
}

/// A network.
pub(super) fn network(text: &str) -> Result<(), String> {
    text.parse::<server::jobs::Network>().map(|_| ()).map_err(|error| error.to_string())
}

/// A CPU template.
pub(super) fn cpu_template(text: &str) -> Result<(), String> {
    crate::settings::cpu_template(text).map(|_| ())
}

/// A name for people or machines.
pub(super) fn name(text: &str) -> Result<(), String> {
    let is_name = !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic());
    if is_name { Ok(()) } else { Err("a name is 1 to 255 letters, digits and signs of ASCII".to_owned()) }
}
