//! How a Firecracker is started: its jail, and what it is shown there.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{io::Interest, net::UnixStream};

use super::FirecrackerSettings;
use crate::{
    jail::{Access, CgroupLimits, JailFile, JailSpec, Launcher},
    spec::{MachineSpec, Placement},
};

/// Where Firecracker finds its files, in its own root.
pub(super) mod paths {
    pub(in super::super) const VMLINUX: &str = "/vm/vmlinux";
    pub(in super::super) const INITRAMFS: &str = "/vm/initramfs.cpio";
    pub(in super::super) const ROOTFS: &str = "/vm/rootfs.ext4";
    pub(in super::super) const MEMORY: &str = "/vm/memory";
    pub(in super::super) const STATE: &str = "/vm/state";
    pub(in super::super) const VSOCK: &str = "/run/vsock";
    pub(in super::super) const API: &str = "/run/api";
    pub(in super::super) const METRICS: &str = "/run/metrics";
    pub(in super::super) const SERIAL: &str = "/run/serial";

    // The same in the run directory, seen from the host.
    pub(in super::super) const VSOCK_NAME: &str = "vsock";
    pub(in super::super) const API_NAME: &str = "api";
    pub(in super::super) const METRICS_NAME: &str = "metrics";
    /// A guest's connection to port 5001 of the host ends here: see `protocol::VSOCK_READY_PORT`.
    pub(in super::super) const READY_NAME: &str = "vsock_5001";
}

/// Beneath which the jailer makes Firecracker's root.
const JAILER_BASE: &str = "/jail";

/// What Firecracker may use besides the guest's memory. Its own is some 5 MiB, and a copy of its program.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// Threads of a Firecracker besides those of the virtual processors.
const OVERHEAD_TASKS: u32 = 16;

/// The least that a file may grow to: the jailer writes down its process id, and Firecracker something of its own when it
/// restores a guest.
const LEAST_FILE_BYTES: u64 = 64 << 10;

/// Descriptors that a Firecracker may have open.
const MAX_DESCRIPTORS: u32 = 256;

/// The jail of a Firecracker: built by its own jailer where this process is root, else by our supervisor alone, which
/// gives it the same with a user namespace in place of another user.
pub(super) fn jail(
    settings: &FirecrackerSettings,
    placement: &Placement,
    machine: MachineSpec,
    mut files: Vec<JailFile>,
    file_bytes: u64,
) -> JailSpec {
    let file_bytes = file_bytes.max(LEAST_FILE_BYTES);
    let firecracker = &settings.installation.program;
    let own: Vec<String> = ["--api-sock", paths::API, "--metrics-path", paths::METRICS, "--level", "Info"]
        .map(str::to_owned)
        .to_vec();
    let user = settings.first_user.map(|first| first + placement.slot);
    let (program, args, launcher) = if let Some(user) = user {
        let user = user.to_string();
        let mut args: Vec<String> = Vec::new();
        let mut add = |flag: &str, value: &str| args.extend([flag.to_owned(), value.to_owned()]);
        add("--id", &placement.name);
        add("--exec-file", &firecracker.to_string_lossy());
        add("--uid", &user);
        add("--gid", &user);
        add("--chroot-base-dir", JAILER_BASE);
        add("--resource-limit", &format!("fsize={file_bytes}"));
        add("--resource-limit", &format!("no-file={MAX_DESCRIPTORS}"));
        args.push("--".to_owned());
        args.extend(own);
        // The jailer's rule: base, the program's name, the id, "root".
        let name = firecracker.file_name().map(PathBuf::from).unwrap_or_default();
        let root = Path::new(JAILER_BASE).join(name).join(&placement.name).join("root");
        (&settings.installation.jailer, args, Some(Launcher { vmm: firecracker.clone(), root }))
    } else {
        let device = PathBuf::from(crate::kvm::DEVICE);
        files.push(JailFile { host: device.clone(), jail: device, access: Access::Device });
        let mut args = vec!["--id".to_owned(), placement.name.clone()];
        args.extend(own);
        (firecracker, args, None)
    };
    JailSpec {
        name: placement.name.clone(),
        program: program.clone(),
        launcher,
        run_directory: true,
        args,
        // It is static: there is nothing else that it needs.
        directories: Vec::new(),
        files,
        user,
        cgroup: Some(CgroupLimits {
            memory_bytes: (u64::from(machine.memory_mib) << 20) + OVERHEAD_BYTES,
            tasks: machine.vcpus + OVERHEAD_TASKS,
        }),
        file_bytes,
    }
}

/// Takes the descriptor of the run directory, which the supervisor has sent.
pub(super) async fn take_directory(from: &UnixStream) -> io::Result<OwnedFd> {
    from.async_io(Interest::READABLE, || {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let passed = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut passed) => passed.next(),
            _ => None,
        });
        passed.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    })
    .await
}
