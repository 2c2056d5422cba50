//! Fixes, as commands that can be pasted into a shell.

#[cfg(test)]
use std::path::Path;

pub(super) use crate::settings::quote;

/// Who will paste it, and what has to be repeated.
#[derive(Clone, Debug, Default)]
pub(super) struct Shell {
    /// Whether it is root's.
    pub(super) is_root: bool,
    /// Flags that `doctor` was given and that its sisters need too, each with a space before.
    pub(super) flags: String,
}

impl Shell {
    /// A command that root has to run.
    pub(super) fn as_root(&self, command: &str) -> String {
        if self.is_root { command.to_owned() } else { format!("sudo {command}") }
    }

    /// A command of this program: `setup`.
    pub(super) fn operator(&self, command: &str) -> String {
        format!("infra.operator {command}{}", self.flags)
    }

    /// A command that has the program's name already.
    pub(super) fn with_flags(&self, command: &str) -> String {
        format!("{command}{}", self.flags)
    }

    /// Installs Debian packages.
    pub(super) fn install(&self, packages: &[&str]) -> String {
        self.as_root(&format!("apt-get install --no-install-recommends {}", packages.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quote(Path::new("/srv/firecracker-1.0")), "/srv/firecracker-1.0");
        assert_eq!(quote(Path::new("/a b/it's; rm")), r"'/a b/it'\''s; rm'");
        assert_eq!(quote(Path::new("~/x")), "'~/x'");
    }

    #[test]
    fn flags_are_repeated_and_only_others_need_sudo() {
        let shell = Shell { is_root: false, flags: " --data-dir /d".to_owned() };
        assert_eq!(shell.operator("setup"), "infra.operator setup --data-dir /d");
        assert_eq!(shell.as_root("true"), "sudo true");
        assert_eq!(Shell { is_root: true, ..shell }.as_root("true"), "true");
    }
}
