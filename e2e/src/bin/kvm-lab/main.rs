//! Tries the product on a host with KVM: an emulated one, so that it can be tried anywhere. `make test-kvm` runs it.
//!
//! Without arguments it makes the lab, boots it, puts itself in, and tells what it reports. In the lab it is started as
//! `kvm-lab inside VMM…`, and takes the steps.

mod inside;
mod jail;
mod outside;
mod report;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => outside::run(),
        ["inside", ref vmms @ ..] => inside::run(vmms),
        _ => Err(anyhow::anyhow!("usage: kvm-lab")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
