//! The requests of Firecracker's API that we use, with the fields that we use.
//!
//! Names and types are those of its API description, `src/firecracker/swagger/firecracker.yaml`, which refuses unknown
//! fields. Paths are those inside the jail.

use hyper::Method;
use serde::Serialize;

/// A request: its body, and where it goes.
pub(super) trait Call: Serialize {
    /// The request, for error messages.
    const NAME: &'static str;
    /// Its method.
    const METHOD: Method;

    /// Its path.
    fn path(&self) -> String;
}

macro_rules! call {
    ($type:ty, $method:ident, $name:literal, $path:literal) => {
        impl Call for $type {
            const NAME: &'static str = $name;
            const METHOD: Method = Method::$method;

            fn path(&self) -> String {
                $path.to_owned()
            }
        }
    };
}

/// The size of the machine.
#[derive(Debug, Serialize)]
pub(super) struct MachineConfiguration {
    pub(super) vcpu_count: u32,
    pub(super) mem_size_mib: u32,
    /// Whether guests see hyper-threads. Not with us: it would let a guest's threads share a core with another's.
    pub(super) smt: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_template: Option<&'static str>,
}

call!(MachineConfiguration, PUT, "PUT /machine-config", "/machine-config");

/// What guests see of the processor, as a CPU template in Firecracker's own form.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct CpuConfiguration<'a>(pub(super) &'a serde_json::Value);

call!(CpuConfiguration<'_>, PUT, "PUT /cpu-config", "/cpu-config");

/// The kernel.
#[derive(Debug, Serialize)]
pub(super) struct BootSource<'a> {
    pub(super) kernel_image_path: &'a str,
    pub(super) initrd_path: &'a str,
    pub(super) boot_args: &'a str,
}

call!(BootSource<'_>, PUT, "PUT /boot-source", "/boot-source");

/// A disk.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are Firecracker's")]
pub(super) struct Drive<'a> {
    pub(super) drive_id: &'a str,
    pub(super) path_on_host: &'a str,
    pub(super) is_root_device: bool,
    pub(super) is_read_only: bool,
}

impl Call for Drive<'_> {
    const NAME: &'static str = "PUT /drives";
    const METHOD: Method = Method::PUT;

    fn path(&self) -> String {
        format!("/drives/{}", self.drive_id)
    }
}

/// The vsock device.
#[derive(Debug, Serialize)]
pub(super) struct Vsock<'a> {
    pub(super) guest_cid: u32,
    pub(super) uds_path: &'a str,
}

call!(Vsock<'_>, PUT, "PUT /vsock", "/vsock");

/// Where goes what a guest writes to its serial port.
#[derive(Debug, Serialize)]
pub(super) struct Serial<'a> {
    pub(super) serial_out_path: &'a str,
}

call!(Serial<'_>, PUT, "PUT /serial", "/serial");

/// How much Firecracker logs from now on.
#[derive(Debug, Serialize)]
pub(super) struct Logger {
    pub(super) level: &'static str,
}

call!(Logger, PUT, "PUT /logger", "/logger");

/// Starts the guest, or has metrics written.
#[derive(Debug, Serialize)]
pub(super) struct Action {
    pub(super) action_type: ActionType,
}

call!(Action, PUT, "PUT /actions", "/actions");

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum ActionType {
    InstanceStart,
    FlushMetrics,
}

/// Stops the processors, or lets them go on.
#[derive(Debug, Serialize)]
pub(super) struct Vm {
    pub(super) state: VmState,
}

call!(Vm, PATCH, "PATCH /vm", "/vm");

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum VmState {
    Paused,
    Resumed,
}

/// Saves a paused machine.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotCreate<'a> {
    pub(super) snapshot_type: &'static str,
    pub(super) snapshot_path: &'a str,
    pub(super) mem_file_path: &'a str,
}

call!(SnapshotCreate<'_>, PUT, "PUT /snapshot/create", "/snapshot/create");

/// Restores a machine.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotLoad<'a> {
    pub(super) snapshot_path: &'a str,
    pub(super) mem_backend: MemoryBackend<'a>,
    pub(super) resume_vm: bool,
    pub(super) vsock_override: VsockOverride<'a>,
}

call!(SnapshotLoad<'_>, PUT, "PUT /snapshot/load", "/snapshot/load");

/// Where memory comes from.
#[derive(Debug, Serialize)]
pub(super) struct MemoryBackend<'a> {
    pub(super) backend_type: &'static str,
    pub(super) backend_path: &'a str,
}

/// Where this clone's vsock is.
#[derive(Debug, Serialize)]
pub(super) struct VsockOverride<'a> {
    pub(super) uds_path: &'a str,
}
