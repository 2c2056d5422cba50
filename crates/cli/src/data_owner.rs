//! The user that the data belongs to, where that is another than root, and root works on it.
//!
//! ```text
//! root ─┬─ most commands ──────────────▶ the same command again, as the owner
//!       └─ setup, images from Debian's packages: what only root can do
//!             └── the rest ────────────▶ a command of its own, as the owner
//! ```
//!
//! So the data stays the owner's, whoever works on it: a service that runs unprivileged can use all of it. And nothing is
//! written by root to where another could put a link meanwhile.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use rustix::process::geteuid;

use crate::{
    config::{Environment, Source},
    failure::Failure,
    host::own_program,
    settings::Global,
};

/// The name of the file with accounts, and the one with their groups.
const ACCOUNTS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// The home of who has none, as Debian writes it.
const NOBODY_HOME: &str = "/nonexistent";

/// A user that is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    name: Option<String>,
    user: u32,
    group: u32,
    groups: Vec<u32>,
    home: PathBuf,
}

impl Owner {
    /// The one that the data directory belongs to. Nothing where that is root, where root does not run this, and where there is
    /// no data directory yet.
    pub(crate) fn other(global: &Global) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let metadata = fs::metadata(global.data().root()).ok().filter(|metadata| metadata.uid() != 0)?;
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        Some(Self::of(metadata.uid(), metadata.gid(), &read(ACCOUNTS), &read(GROUPS)))
    }

    fn of(user: u32, group: u32, accounts: &str, all_groups: &str) -> Self {
        let number = |text: Option<&&str>| text.and_then(|text| text.parse::<u32>().ok());
        let account = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let account = account.into_iter().find(|fields| number(fields.get(2)) == Some(user));
        let name = account.as_ref().and_then(|fields| fields.first()).map(ToString::to_string);
        let group = account.as_ref().and_then(|fields| number(fields.get(3))).unwrap_or(group);
        let home = account.as_ref().and_then(|fields| fields.get(5)).filter(|home| home.starts_with('/'));
        let home = home.map_or_else(|| NOBODY_HOME.into(), PathBuf::from);
        let member_of = |fields: &[&str]| {
            let is_member = fields.get(3)?.split(',').any(|member| Some(member) == name.as_deref());
            number(fields.get(2)).filter(|_| is_member)
        };
        let mut groups = vec![group];
        groups.extend(all_groups.lines().filter_map(|line| member_of(&line.split(':').collect::<Vec<_>>())));
        Self { name, user, group, groups, home }
    }

    /// Becomes this program once more, as this user, with these arguments. Returns only where that fails.
    pub(crate) fn go_on(
        &self,
        global: &Global,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Infallible, Failure> {
        let error = self.command(global)?.args(arguments).exec();
        Err(Failure::host(anyhow::Error::new(error).context(self.doing())))
    }

    /// This program, as this user.
    fn command(&self, global: &Global) -> Result<Command, Failure> {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={}", self.user), format!("--regid={}", self.group)])
            .args([format!("--groups={}", groups.join(",")), "--".to_owned()])
            .arg(own_program()?)
            .env("HOME", &self.home);
        for name in ["USER", "LOGNAME"] {
            match &self.name {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // Root's own directories are none of its.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"XDG_"))
        {
            command.env_remove(name);
        }
        // What root reads where nobody says otherwise is what is meant.
        command.env("LLM_FIRECRACKER_DATA_DIR", global.data().root());
        if let Source::Usual(file) = Source::choose(None, &Environment::of_process(), true)
            && file.exists()
        {
            command.env("LLM_FIRECRACKER_CONFIG", file);
        }
        Ok(command)
    }

    fn doing(&self) -> String {
        match &self.name {
            Some(name) => format!("cannot go on as {name}, to whom the data directory belongs"),
            None => format!("cannot go on as user {}, to whom the data directory belongs", self.user),
        }
    }
}

/// A directory of root's own, in which an image is made that is to be another's.
pub(crate) struct Workshop<'a> {
    owner: Owner,
    global: &'a Global,
    directory: tempfile::TempDir,
    /// Where the image is to be in the end.
    place: PathBuf,
}

impl<'a> Workshop<'a> {
    /// One for the image at `place` in the data directory, where that belongs to another than root.
    pub(crate) fn needed(global: &'a Global, place: &Path) -> Result<Option<Self>, Failure> {
        let Some(owner) = Owner::other(global).filter(|_| place.starts_with(global.data().root())) else {
            return Ok(None);
        };
        let directory = tempfile::Builder::new().prefix("llm-firecracker-").tempdir_in("/var/tmp");
        let directory = directory.context("cannot make a directory in /var/tmp").map_err(Failure::host)?;
        Ok(Some(Self { owner, global, directory, place: place.to_owned() }))
    }

    /// Where the image is made.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.path().join(self.place.file_name().unwrap_or(OsStr::new("image")))
    }

    /// Copies the image that is in its place, and what is noted of it, so that they can be changed here.
    pub(crate) fn bring(&self) -> Result<(), Failure> {
        let failed = |error: anyhow::Error| {
            Failure::host(error.context(format!("cannot copy {}", self.place.display())))
        };
        images::rootfs::copy_image(&self.place, &self.image()).map_err(|error| failed(error.into()))
    }

    /// Puts the image in its place, as its owner.
    pub(crate) fn hand_over(self) -> Result<(), Failure> {
        let image = self.image();
        let reading = || -> std::io::Result<_> {
            Ok((fs::File::open(&image)?, fs::read(images::rootfs::details_path(&image))?))
        };
        let (file, details) =
            reading().with_context(|| format!("cannot read {}", image.display())).map_err(Failure::host)?;
        let details = String::from_utf8_lossy(&details).into_owned();
        let mut command = self.owner.command(self.global)?;
        command.arg(ADOPT_ARGUMENT).arg(&self.place).arg(details).stdin(file);
        let status = command.status().context(self.owner.doing()).map_err(Failure::host)?;
        if status.success() {
            return Ok(());
        }
        // It has said why.
        Err(Failure::host(anyhow::anyhow!("the image cannot be put at {} ({status})", self.place.display())))
    }
}

/// The argument with which this program starts itself, as the owner, to put an image in place.
pub(crate) const ADOPT_ARGUMENT: &str = "adopt-image";

/// Puts the image that stdin is in the place that the next argument names, with what the one behind it notes.
pub(crate) fn adopt() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(2);
    let (place, details) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let adopted = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .context("cannot read the image")
        .and_then(|file| {
            let details = serde_json::from_slice(details.as_encoded_bytes()).context("no notes")?;
            Ok(images::rootfs::adopt_image(&fs::File::from(file), Path::new(&place), details)?)
        });
    match adopted {
        Ok(_) => std::process::ExitCode::SUCCESS,
        Err(error) => Failure::host(error).report(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nllm:x:990:980:LLM:/var/lib/llm:/usr/sbin/nologin\nodd:x:991\n";
    const GROUP: &str = "root:x:0:\nkvm:x:106:other,llm\nllm:x:980:\nllmx:x:5:llmx\nbroken:x:a:llm\n";

    #[test]
    fn an_owner_has_the_groups_and_the_home_of_its_account() {
        let owner = Owner::of(990, 7, PASSWD, GROUP);
        assert_eq!((owner.name.as_deref(), owner.user, owner.group), (Some("llm"), 990, 980));
        assert_eq!((owner.groups, owner.home), (vec![980, 106], "/var/lib/llm".into()));
    }

    #[test]
    fn an_owner_without_an_account_has_the_directorys_group_and_no_home() {
        for user in [12345, 991] {
            let owner = Owner::of(user, 7, PASSWD, GROUP);
            assert_eq!((owner.user, owner.group, owner.groups), (user, 7, vec![7]));
            assert_eq!(owner.home, Path::new(NOBODY_HOME));
        }
    }
}
