//! Tries the product on a host with KVM: an emulated one, so that it can be tried anywhere. `make test-kvm` runs it.
//!
//! `kvm-lab [STAGE…]` makes the lab, boots it for each stage, puts itself in, and tells what it reports. In the lab it is started as
//! `kvm-lab inside STAGE`, and takes the steps of one of the stages.

mod description;
mod elsewhere;
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
        ["inside", stage] => inside::run(stage),
        ref stages => outside::run(stages),
    };
    e2e::exit_code(done)
}
