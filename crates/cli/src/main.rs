//! The program `infra.operator`: all of it is in the library beside.

use std::process::ExitCode;

fn main() -> ExitCode {
    infra_operator::main()
}
