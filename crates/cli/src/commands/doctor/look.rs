//! Looks: gathers the facts that the other modules judge.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use engine::{Engine, Languages};
use images::{KernelBundle, Progress, rootfs};
use rustix::fs::{Access, access, statvfs};
use store::{
    DataDirectory,
    snapshot::{Catalogue, Entry},
};
use vmm::{
    firecracker, jail, kvm,
    qemu::{Installation, ProbeError},
};

use super::{
    data::{self, DirectoryFacts, DirectoryState, DiskFacts, ImageFacts},
    finding::{Finding, chain},
    fix::{Shell, quote},
    host::{self, KvmFacts, NamespaceFacts, PROGRAMS},
    leftovers::{self, Group},
    production::{self, ProductionFacts},
    snapshots::{self, SnapshotFacts, Verdict},
};
use crate::{
    commands::api::memory,
    host::{HostFacts, engine, find_firecracker},
    settings::Global,
};

/// Where programs are looked for when images are made, whatever `PATH` says.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What was found, but for the snapshots.
pub(super) struct Looked {
    /// The findings.
    pub(super) findings: Vec<Finding>,
    /// Whether there is a QEMU to be used.
    pub(super) has_qemu: bool,
    /// The languages that have an image to be used.
    pub(super) languages: Vec<String>,
}

/// Looks at everything but the snapshots. Blocks.
pub(super) fn at_host(
    global: &Global,
    found: Result<Installation, ProbeError>,
    shell: &Shell,
    progress: &dyn Progress,
) -> Looked {
    let data = global.data();
    // Before anything is noted about this host: the note would make the data directory.
    let directory = directory_facts(&data);
    let exists = matches!(directory.state, DirectoryState::Present { .. });
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|(program, _)| !is_installed(program)).collect();
    let has_apt = !missing.iter().any(|(program, _)| *program == "apt-get");
    let has_qemu = found.is_ok();
    let images = image_facts(&data);
    let known = images.as_deref().unwrap_or_default();
    let closed = closed_files(&data, known, shell.is_root);
    let usable = known.iter().filter(|facts| facts.is_known && facts.problem.is_none());
    let languages = usable.map(|facts| facts.language.clone()).collect();
    let kvm = kvm_facts(global, has_qemu && exists);
    let matters = production::matters(&kvm.verdict, kvm.chosen);
    let production = matters.then(|| ProductionFacts::read(Path::new("/")));
    let mut findings = vec![
        host::qemu(found, global.config.vmm.qemu.is_some(), has_apt, shell),
        host::firecracker(
            find_firecracker(global).and_then(|program| firecracker::version(&program)),
            kvm.verdict.is_usable(),
            shell,
        ),
        host::kvm(&kvm, shell),
        host_kernel(),
        host::namespaces(namespace_facts(), shell),
        host::cgroups(jail::cgroup_available(), shell),
        leftovers::leftovers(&groups(), shell),
        host::memory(memory::of_host().map(|bytes| bytes >> 20)),
        host::programs(&missing, shell),
    ];
    // Before what is made: another microcode or kernel may be another processor to a snapshot.
    findings.extend(production::findings(production.as_ref(), shell));
    findings.extend([
        data::directory(&directory, shell),
        data::disk(disk_facts(data.root()), data.root(), shell),
        bundle(&data, progress, shell),
    ]);
    match &images {
        Ok(images) => findings.extend(data::images(images, &first_language(), shell)),
        Err(finding) => findings.push(finding.clone()),
    }
    findings.push(data::readable(&closed, shell));
    Looked { findings, has_qemu, languages }
}

/// Looks at the snapshots.
pub(super) async fn at_snapshots(
    global: &Global,
    has_qemu: bool,
    languages: &[String],
    shell: &Shell,
    progress: Arc<dyn Progress>,
) -> Vec<Finding> {
    let entries = match Catalogue::new(global.data().snapshots()).list() {
        Ok(entries) => entries,
        Err(error) => {
            let snapshots = global.data().snapshots();
            let fix = if snapshots.is_file() || !global.data().root().is_dir() {
                format!("move away what is in the place of {}", snapshots.display())
            } else {
                shell.as_root(&format!("chmod -R a+rX {}", quote(&snapshots)))
            };
            return vec![Finding::problem("snapshots", chain(&error), fix)];
        }
    };
    // Nothing to check: then nothing is noted about this host either.
    let engine = if has_qemu && !entries.is_empty() { engine(global).ok() } else { None };
    let mut facts = Vec::new();
    for entry in entries {
        facts.push(snapshot_facts(entry, engine.as_ref(), &progress).await);
    }
    snapshots::snapshots(&facts, languages, &first_language(), shell)
}

async fn snapshot_facts(
    entry: Entry,
    engine: Option<&Engine>,
    progress: &Arc<dyn Progress>,
) -> SnapshotFacts {
    let language = entry.language.to_string();
    let (is_known, size, directory) = (is_known(&language), entry.size, quote(&entry.directory));
    let verdict = match (engine, &entry.manifest) {
        // The check reads a manifest again, and so does not see that it is about something else.
        (_, Err(error)) => Verdict::Manifest(chain(error)),
        (None, Ok(_)) => Verdict::Unchecked,
        (Some(engine), Ok(_)) => {
            match engine.check_snapshot(entry, false, Arc::clone(progress)).await.problem {
                None => Verdict::Usable,
                Some(problem) => Verdict::Unusable(problem),
            }
        }
    };
    SnapshotFacts { language, is_known, size, directory, verdict }
}

/// KVM as it is now and, where there may be a note, as it was noted.
fn kvm_facts(global: &Global, may_be_noted: bool) -> KvmFacts {
    let noted = if may_be_noted { Some(HostFacts::get(global)) } else { None };
    KvmFacts {
        verdict: kvm::probe(),
        noted: noted.map(|facts| (facts.kvm, global.data().run().join("host.json"))),
        chosen: global.config.vmm.acceleration,
        module: kvm_module(),
    }
}

/// The kernel module that drives this processor's virtualization.
fn kvm_module() -> Option<&'static str> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"))?;
    [("vmx", "kvm_intel"), ("svm", "kvm_amd")]
        .into_iter()
        .find_map(|(flag, module)| flags.split_whitespace().any(|known| known == flag).then_some(module))
}

fn host_kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").ok();
    host::kernel(release.trim(), actions.as_deref())
}

fn namespace_facts() -> NamespaceFacts {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    NamespaceFacts {
        capabilities: capabilities.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()),
        unprivileged_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
        most: number("/proc/sys/user/max_user_namespaces"),
        apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    }
}

fn is_installed(program: &str) -> bool {
    PROGRAM_DIRECTORIES.iter().any(|directory| {
        let path = Path::new(directory).join(program);
        path.is_file() && access(&path, Access::EXEC_OK).is_ok()
    })
}

/// The cgroups of all microVMs.
fn groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for parent in jail::cgroup_parents() {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let path = entry.path();
            // What is gone meanwhile, or cannot be read, is not left over.
            if let Ok(metadata) = entry.metadata()
                && metadata.is_dir()
                && let Ok(processes) = fs::read_to_string(path.join("cgroup.procs"))
            {
                let made = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let age = SystemTime::now().duration_since(made).unwrap_or_default();
                groups.push(Group { path, age, is_used: !processes.trim().is_empty() });
            }
        }
    }
    groups
}

fn directory_facts(data: &DataDirectory) -> DirectoryFacts {
    let path = data.root().to_owned();
    let state = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirectoryState::Missing { obstacle: writable(existing_ancestor(&path)).err() }
        }
        Err(error) => DirectoryState::Hidden(error),
        Ok(metadata) if !metadata.is_dir() => DirectoryState::NoDirectory,
        Ok(metadata) => DirectoryState::Present {
            owner: metadata.uid(),
            mode: metadata.permissions().mode(),
            obstacle: first_obstacle(data),
        },
    };
    DirectoryFacts { path, user: rustix::process::geteuid().as_raw(), state }
}

fn writable(path: &Path) -> io::Result<()> {
    let wanted = if path.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    Ok(access(path, wanted)?)
}

fn existing_ancestor(path: &Path) -> &Path {
    let here = || Path::new(".");
    let found = path.ancestors().find(|ancestor| ancestor.exists());
    found.filter(|ancestor| !ancestor.as_os_str().is_empty()).unwrap_or_else(here)
}

/// The first place beneath the data directory to which commands write and this user cannot.
fn first_obstacle(data: &DataDirectory) -> Option<(PathBuf, io::Error)> {
    let children = |directory: PathBuf| {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut places = vec![data.root().to_owned(), data.images(), data.snapshots(), data.run()];
    // Directories of languages, and the locks of slots.
    places.extend(children(data.snapshots()).into_iter().filter(|path| path.is_dir()));
    places.push(data.run().join("slots"));
    places.extend(children(data.run().join("slots")));
    places.into_iter().find_map(|place| match writable(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some((place, error)),
        _ => None,
    })
}

fn disk_facts(root: &Path) -> Option<DiskFacts> {
    let disk = statvfs(existing_ancestor(root)).ok()?;
    // Some file systems count no files.
    let free_files = (disk.f_files > 0).then_some(disk.f_favail);
    Some(DiskFacts { free_mib: disk.f_bavail.saturating_mul(disk.f_frsize) >> 20, free_files })
}

fn bundle(data: &DataDirectory, progress: &dyn Progress, shell: &Shell) -> Finding {
    let opened = KernelBundle::open(&data.kernel());
    let verified = opened.and_then(|bundle| bundle.verify(progress).map(|()| bundle));
    data::bundle(verified.as_ref().map(|bundle| (bundle.manifest(), bundle.is_current())), shell)
}

fn image_facts(data: &DataDirectory) -> Result<Vec<ImageFacts>, Finding> {
    let listed = rootfs::list(&data.images());
    let summaries = listed.map_err(|error| {
        let place = data.images();
        let fix =
            error.hint().unwrap_or_else(|| format!("move away what is in the place of {}", place.display()));
        Finding::problem("images", chain(&error), fix)
    })?;
    let facts = summaries.into_iter().map(|image| ImageFacts {
        is_known: is_known(&image.language),
        // The summary leaves the cause out.
        problem: rootfs::inspect(&image.path).err().map(|error| chain(&error)),
        language: image.language,
        path: image.path,
        bytes: image.size_bytes,
    });
    Ok(facts.collect())
}

/// Files that a VMM opens by itself and could not. Where it is started by root it has a user of its own.
fn closed_files(data: &DataDirectory, images: &[ImageFacts], is_root: bool) -> Vec<PathBuf> {
    const OTHERS_READ: u32 = 0o004;
    let mut files: Vec<_> = images.iter().map(|image| image.path.clone()).collect();
    if let Ok(bundle) = KernelBundle::open(&data.kernel()) {
        files.extend([bundle.vmlinux(), bundle.initramfs()]);
    }
    files.retain(|path| match fs::metadata(path) {
        Ok(metadata) if is_root => metadata.permissions().mode() & OTHERS_READ == 0,
        Ok(_) => access(path, Access::READ_OK).is_err(),
        Err(_) => false,
    });
    files
}

fn is_known(language: &str) -> bool {
    Languages::built_in().iter().any(|spec| spec.name.as_str() == language)
}

/// The language that examples are made with.
fn first_language() -> String {
    Languages::built_in().iter().next().map_or_else(|| "python".to_owned(), |spec| spec.name.to_string())
}
