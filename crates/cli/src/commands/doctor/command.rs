//! The command: looks at everything, and prints what was found.

use std::{
    ffi::OsString,
    fs, io,
    io::IsTerminal as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

use clap::Parser as _;
use engine::Languages;
use images::{KernelBundle, Progress, rootfs};
use rustix::fs::{Access, access, statvfs};
use store::{DataDirectory, snapshot::{Catalogue, Entry}};
use vmm::{jail, kvm, qemu::{self, Installation, ProbeError}};

use super::{
    data::{self, DirectoryFacts, DirectoryState, DiskFacts, ImageFacts},
    finding::{Finding, Report, Status},
    fix::{Shell, quote},
    host::{self, KvmFacts, NamespaceFacts, PROGRAMS},
    leftovers::{self, Group, PARENTS},
    snapshots::{self, SnapshotFacts, Verdict},
};
use crate::{
    failure::{DONE, Failure, HOST},
    host::{HostFacts, engine},
    output::{self, Steps},
    settings::{Acceleration, Global},
    signals::blocking,
};

/// Where programs are looked for when images are made, whatever `PATH` says.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Arguments of `doctor`.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 no problem was found (there may be warnings); 3 a problem was found.

What was made once and cannot be used now (a snapshot of an image that has changed) is a problem; what was never
made is a warning. Fixes are best applied from the top down.")]
pub(crate) struct DoctorArgs {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(in super::super) async fn run(args: DoctorArgs, global: &Global) -> Result<ExitCode, Failure> {
    let steps = Arc::new(Steps::new());
    let shell = shell(global);
    let (looked, progress) = (Looked { global: global.clone(), shell: shell.clone() }, Arc::clone(&steps));
    let (mut findings, has_qemu, images) = blocking(move || looked.findings(&*progress)).await;
    findings.extend(check_snapshots(global, has_qemu, &images, &shell, &steps).await);
    steps.finish();
    let report = Report::new(findings);
    if args.json {
        output::json(&report)?;
    } else {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = std::io::stdout().is_terminal() && !no_colour;
        report.lines(colours).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(ExitCode::from(if report.status == Status::Problem { HOST } else { DONE }))
}

/// How fixes are written: a command without the flags that this one has would mend something else.
fn shell(global: &Global) -> Shell {
    /// What the environment alone would choose.
    #[derive(clap::Parser)]
    struct Environment {
        #[command(flatten)]
        global: Global,
    }
    let chosen = Environment::try_parse_from(std::iter::empty::<OsString>()).ok().map(|parsed| parsed.global);
    let mut flags = String::new();
    let data = global.data();
    if chosen.as_ref().is_none_or(|chosen| chosen.data() != data) {
        flags.push_str(&format!(" --data-dir {}", quote(data.root())));
    }
    if let Some(program) = &global.qemu
        && chosen.as_ref().is_none_or(|chosen| chosen.qemu.as_ref() != Some(program))
    {
        flags.push_str(&format!(" --qemu {}", quote(program)));
    }
    if let Some(acceleration) = global.accel
        && chosen.is_none_or(|chosen| chosen.accel != Some(acceleration))
    {
        flags.push_str(match acceleration {
            Acceleration::Kvm => " --accel kvm",
            Acceleration::Tcg => " --accel tcg",
        });
    }
    Shell { is_root: rustix::process::geteuid().is_root(), flags }
}

/// What is needed to look.
struct Looked {
    global: Global,
    shell: Shell,
}

impl Looked {
    /// All findings but those on snapshots, whether there is a QEMU, and the languages that have an image.
    fn findings(&self, progress: &dyn Progress) -> (Vec<Finding>, bool, Vec<String>) {
        let (shell, data) = (&self.shell, self.global.data());
        // Before anything is asked of QEMU: the note of its answer would make the data directory.
        let directory = directory_facts(&data);
        let exists = matches!(directory.state, DirectoryState::Present { .. });
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|(program, _)| !is_installed(program)).collect();
        let has_apt = !missing.iter().any(|(program, _)| *program == "apt-get");
        let found = self.qemu();
        let has_qemu = found.is_ok();
        let images = image_facts(&data);
        let usable = |facts: &&ImageFacts| facts.is_known && facts.problem.is_none();
        let languages =
            images.iter().flatten().filter(usable).map(|facts| facts.language.clone()).collect::<Vec<_>>();
        let closed = closed_files(&data, images.as_deref().unwrap_or_default(), shell.is_root);
        let mut findings = vec![
            host::qemu(found.as_ref().map_err(as_owned), self.global.qemu.is_some(), has_apt, shell),
            host::firecracker(),
            host::kvm(&self.kvm_facts(has_qemu && exists), shell),
            host_kernel(),
            host::namespaces(namespace_facts(), shell),
            host::cgroups(jail::cgroup_available(), shell),
            leftovers::leftovers(&groups(), shell),
            host::memory(available_mib()),
            host::programs(&missing, shell),
            data::directory(&directory, shell),
            data::disk(disk_facts(data.root()), data.root(), shell),
            bundle(&data, progress, shell),
        ];
        match images {
            Ok(images) => findings.extend(data::images(&images, &first_language(), shell)),
            Err(finding) => findings.push(finding),
        }
        findings.push(data::readable(&closed, shell));
        (findings, has_qemu, languages)
    }

    fn qemu(&self) -> Result<Installation, ProbeError> {
        match &self.global.qemu {
            Some(program) => qemu::version(program),
            None => qemu::version(&qemu::find(std::env::var_os("PATH").as_deref())?),
        }
    }

    /// KVM as it is now and, where there may be a note, as it was noted.
    fn kvm_facts(&self, has_note: bool) -> KvmFacts {
        let noted = if has_note { HostFacts::get(&self.global).ok() } else { None };
        KvmFacts {
            verdict: kvm::probe(),
            noted: noted.map(|facts| (facts.kvm, self.global.data().run().join("host.json"))),
            chosen: self.global.accel,
            module: kvm_module(),
        }
    }
}
