//! Prints a page.

use std::process::ExitCode;

use super::{commands, endpoints};
use crate::{failure::Failure, output};

/// Arguments of `reference`.
#[derive(clap::Args)]
pub(crate) struct ReferenceArgs {
    /// The page
    #[arg(value_enum)]
    page: Page,
}

/// A page that is written by the code.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Page {
    /// The page docs/commands.md
    Commands,
    /// The page docs/endpoints.md
    Endpoints,
}

/// Prints it.
pub(in super::super) fn run(args: &ReferenceArgs) -> Result<ExitCode, Failure> {
    let page = match args.page {
        Page::Commands => commands::page(),
        Page::Endpoints => endpoints::page(&server::document()),
    };
    output::line(page.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn committed(page: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page)).unwrap()
    }

    #[test]
    fn the_page_of_commands_is_current() {
        assert!(
            committed("commands.md") == commands::page(),
            "write it anew: cargo run -- reference commands > docs/commands.md"
        );
    }

    #[test]
    fn the_page_of_endpoints_is_current() {
        assert!(
            committed("endpoints.md") == endpoints::page(&server::document()),
            "write it anew: cargo run -- reference endpoints > docs/endpoints.md"
        );
    }
}
