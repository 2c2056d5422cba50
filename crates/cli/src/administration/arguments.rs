//! Tasks as arguments of this program. Values stand in one argument with their flag, so that none can become another flag.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use clap::{Args as _, CommandFactory as _, parser::ValueSource};
use server::operations::{BucketName, ImageOrigin, SnapshotSizes, Task};

use crate::{Arguments, settings::Flags};

/// Flags of all commands as this process was given them, and its data directory. What is in the environment is inherited.
pub(super) fn global(data: &Path) -> Vec<OsString> {
    let matches = Arguments::command().ignore_errors(true).get_matches_from(std::env::args_os());
    let of_all_commands = Flags::augment_args(clap::Command::new("all"));
    let mut arguments = vec![flag("data-dir", data.as_os_str())];
    for argument in of_all_commands.get_arguments().filter(|argument| argument.get_action().takes_values()) {
        let (id, long) = (argument.get_id().as_str(), argument.get_long().unwrap_or_default());
        if long != "data-dir" && matches.value_source(id) == Some(ValueSource::CommandLine) {
            let values = matches.get_raw(id).into_iter().flatten();
            arguments.extend(values.map(|value| flag(long, value)));
        }
    }
    arguments
}

/// A list of this host's.
pub(super) fn list(what: &str) -> Vec<OsString> {
    words(&[what, "list", "--json"])
}

/// A list of a bucket's.
pub(super) fn list_remote(what: &str, bucket: Option<&BucketName>) -> Vec<OsString> {
    let mut arguments = words(&[what, "list", "--remote", "--json"]);
    arguments.extend(bucket.map(|bucket| value("bucket", bucket)));
    arguments
}

/// A task.
pub(super) fn of(task: &Task) -> Vec<OsString> {
    let language = task.language();
    match task {
        Task::CreateImage { origin: ImageOrigin::Packages, size_mib, .. } => {
            let named = [words(&["rootfs", "create"]), vec![value("lang", language)]].concat();
            with(named, [size_mib.map(|mib| value("size", mib))])
        }
        Task::CreateImage { origin: ImageOrigin::Registry(image), size_mib, .. } => {
            let mut arguments = words(&["rootfs", "from-docker"]);
            arguments.extend([value("name", language), value("image", image)]);
            with(arguments, [size_mib.map(|mib| value("size", mib))])
        }
        Task::UploadImage { bucket, again, .. } => {
            with(exchange("rootfs", "upload", task, bucket.as_ref()), [switch("again", *again)])
        }
        Task::DownloadImage { bucket, digest, force, .. } => {
            let digest = digest.as_ref().map(|digest| value("digest", digest));
            with(exchange("rootfs", "download", task, bucket.as_ref()), [digest, switch("force", *force)])
        }
        Task::CreateSnapshot { machine, .. } => {
            let mut arguments = words(&["snapshot", "create"]);
            arguments.extend([value("lang", language)]);
            arguments.extend([value("mem", machine.memory_mib), value("vcpus", machine.vcpus)]);
            arguments
        }
        Task::UploadSnapshots { sizes, bucket, again, skip_stale, .. } => {
            let arguments = with(exchange("snapshot", "upload", task, bucket.as_ref()), these(*sizes));
            with(arguments, [switch("again", *again), switch("skip-stale", *skip_stale)])
        }
        Task::DownloadSnapshots { sizes, bucket, force, .. } => {
            let arguments = with(exchange("snapshot", "download", task, bucket.as_ref()), these(*sizes));
            with(arguments, [switch("force", *force)])
        }
    }
}

fn exchange(what: &str, verb: &str, task: &Task, bucket: Option<&BucketName>) -> Vec<OsString> {
    let named = [words(&[what, verb, "--json"]), vec![value("lang", task.language())]].concat();
    with(named, [bucket.map(|bucket| value("bucket", bucket))])
}

fn these(sizes: SnapshotSizes) -> [Option<OsString>; 2] {
    [sizes.memory_mib.map(|mib| value("mem", mib)), sizes.vcpus.map(|vcpus| value("vcpus", vcpus))]
}

fn with(mut arguments: Vec<OsString>, more: impl IntoIterator<Item = Option<OsString>>) -> Vec<OsString> {
    arguments.extend(more.into_iter().flatten());
    arguments
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn switch(long: &str, on: bool) -> Option<OsString> {
    on.then(|| format!("--{long}").into())
}

fn value(long: &str, value: impl std::fmt::Display) -> OsString {
    format!("--{long}={value}").into()
}

fn flag(long: &str, value: &OsStr) -> OsString {
    let mut argument = OsString::from(format!("--{long}="));
    argument.push(value);
    argument
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn tasks() -> Vec<(Task, &'static str)> {
        let language = || "python".parse().unwrap();
        let bucket = || Some("llm-firecracker".parse().unwrap());
        let digest = "a".repeat(64).parse().unwrap();
        let machine = vmm::MachineSpec { memory_mib: 256, vcpus: 2 };
        let sizes = SnapshotSizes { memory_mib: Some(256), vcpus: None };
        let registry = ImageOrigin::Registry("python:3.12-alpine".parse().unwrap());
        let (origin, size_mib) = (ImageOrigin::Packages, Some(200));
        vec![
            (
                Task::CreateImage { language: language(), origin, size_mib },
                "rootfs create --lang=python --size=200",
            ),
            (
                Task::CreateImage { language: language(), origin: registry, size_mib: None },
                "rootfs from-docker --name=python --image=python:3.12-alpine",
            ),
            (
                Task::UploadImage { language: language(), bucket: bucket(), again: true },
                "rootfs upload --json --lang=python --bucket=llm-firecracker --again",
            ),
            (
                Task::DownloadImage { language: language(), bucket: None, digest: Some(digest), force: true },
                "rootfs download --json --lang=python --digest=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                 aaaaaaaaa --force",
            ),
            (
                Task::CreateSnapshot { language: language(), machine },
                "snapshot create --lang=python --mem=256 --vcpus=2",
            ),
            (
                Task::UploadSnapshots {
                    language: language(),
                    sizes,
                    bucket: bucket(),
                    again: false,
                    skip_stale: true,
                },
                "snapshot upload --json --lang=python --bucket=llm-firecracker --mem=256 --skip-stale",
            ),
            (
                Task::DownloadSnapshots { language: language(), sizes, bucket: None, force: false },
                "snapshot download --json --lang=python --mem=256",
            ),
        ]
    }

    #[test]
    fn every_task_is_a_command_of_this_program() {
        for (task, expected) in tasks() {
            let arguments = of(&task);
            let shown: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
            assert_eq!(shown.join(" "), expected);
            let parsed = Arguments::try_parse_from([words(&["infra.operator"]), arguments].concat());
            assert!(parsed.is_ok(), "{expected}: {}", parsed.err().unwrap());
        }
    }

    #[test]
    fn every_list_is_a_command_of_this_program() {
        let bucket = "llm-firecracker".parse().unwrap();
        for what in ["rootfs", "snapshot"] {
            for arguments in [list(what), list_remote(what, None), list_remote(what, Some(&bucket))] {
                let parsed = Arguments::try_parse_from([words(&["infra.operator"]), arguments].concat());
                assert!(parsed.is_ok(), "{}", parsed.err().unwrap());
            }
        }
    }
}
