//! The machine: its files, and a guest that boots, is saved and restored in name.

use std::{
    cell::Cell,
    fs::{self, File},
    os::unix::{fs::FileExt as _, net::UnixListener},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use firecracker_stand_in::api::Api;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::guest::{self, Processors};

/// What an initramfs has to hold for the stand-in to boot it: a program to start.
const INIT: &[u8] = b"init\0";

/// What Firecracker logs when a processor shuts down by a triple fault: what a guest's panic comes to.
const TRIPLE_FAULT: &str = "Unexpected exit reason on vcpu run: Shutdown";

/// Where a saved machine's memory holds something, and what.
const MARK_AT: u64 = 1 << 20;
const MARK: [u8; 16] = *b"guest was here!\n";

#[derive(Default)]
pub(crate) struct Machine {
    processors: Processors,
    /// Whether its guest has found nothing to start.
    panics: Cell<bool>,
}

impl Machine {
    /// Starts what was described.
    pub(crate) fn boot(&self, api: &Api) -> Result<()> {
        let text = |request: &str, field: &str| api.last(request).and_then(|body| body[field].as_str());
        let (boot, drive, vsock) = ("PUT /boot-source", "PUT /drives/", "PUT /vsock");
        let kernel = text(boot, "kernel_image_path").context("there is no kernel")?;
        read_only(kernel)?;
        ensure!(fs::read(kernel).context("read the kernel")?.starts_with(b"\x7fELF"), "Cannot load kernel");
        read_only(text(drive, "path_on_host").context("there is no disk")?)?;
        ensure!(
            api.last(drive).is_some_and(|drive| drive["is_read_only"] == true),
            "the disk can be written"
        );
        ensure!(
            text(boot, "boot_args").is_some_and(|line| line.contains("8250.nr_uarts=0")),
            "a serial console"
        );
        let initramfs = text(boot, "initrd_path").context("there is no initramfs")?;
        read_only(initramfs)?;
        let initramfs = fs::read(initramfs).context("read the initramfs")?;
        if !initramfs.windows(INIT.len()).any(|window| window == INIT) {
            // In a moment, as soon as the request that started it is answered.
            self.panics.set(true);
            return Ok(());
        }
        let socket = text(vsock, "uds_path").context("there is no vsock")?;
        self.listen(socket)?;
        guest::announce(socket)
    }

    /// Ends as Firecracker does when its guest has panicked, if this one has.
    pub(crate) fn end_if_panicked(&self) {
        if self.panics.get() {
            println!("{TRIPLE_FAULT}");
            std::process::exit(1);
        }
    }

    /// Lets the guest run, or stops it.
    pub(crate) fn set_running(&self, running: bool) {
        self.processors.set_running(running);
    }

    /// Writes the machine to files, which must be there already, the VMM's own.
    pub(crate) fn save(api: &Api, body: &Value) -> Result<()> {
        let path = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let memory_mib = api.last("PUT /machine-config").and_then(|body| body["mem_size_mib"].as_u64());
        let bytes = memory_mib.context("there is no memory")? << 20;
        let rootfs = api.last("PUT /drives/").context("there is no disk")?["path_on_host"].clone();
        let memory = File::options().write(true).open(path("mem_file_path")).context("open the memory")?;
        // All of it is written, as Firecracker does, but for what is the same in each.
        memory.set_len(bytes).context("write the memory")?;
        memory.write_all_at(&MARK, MARK_AT).context("write the memory")?;
        let state = json!({ "stand-in": crate::VERSION, "bytes": bytes, "rootfs": rootfs });
        fs::write(path("snapshot_path"), state.to_string()).context("write the state")
    }

    /// Goes on with a machine that was saved.
    pub(crate) fn restore(&self, body: &Value) -> Result<()> {
        let state = body["snapshot_path"].as_str().unwrap_or_default();
        read_only(state)?;
        let state: Value = serde_json::from_slice(&fs::read(state).context("read the state")?)
            .context("the state is none of a machine")?;
        ensure!(state["stand-in"] == crate::VERSION, "the state is of another version: {state}");
        read_only(state["rootfs"].as_str().unwrap_or_default())?;
        let memory = body["mem_backend"]["backend_path"].as_str().unwrap_or_default();
        read_only(memory)?;
        let memory = File::open(memory).context("open the memory")?;
        let bytes = memory.metadata().context("look at the memory")?.len();
        ensure!(state["bytes"] == bytes, "the memory has {bytes} bytes and not {}", state["bytes"]);
        let mut mark = MARK;
        memory.read_exact_at(&mut mark, MARK_AT).context("read the memory")?;
        ensure!(mark == MARK, "the memory is not what was saved");
        self.set_running(body["resume_vm"] == true);
        self.listen(body["vsock_override"]["uds_path"].as_str().context("a clone has a vsock of its own")?)
    }

    fn listen(&self, socket: &str) -> Result<()> {
        let listener = UnixListener::bind(socket).context("make the vsock's socket")?;
        let processors = self.processors.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let processors = processors.clone();
                thread::spawn(move || guest::serve(stream, &processors));
            }
        });
        Ok(())
    }
}

/// Opens a file as Firecracker does what it must not be able to change, and makes sure that it is not.
fn read_only(path: &str) -> Result<()> {
    File::open(path).with_context(|| format!("open {path}"))?;
    let error =
        File::options().write(true).open(path).err().with_context(|| format!("{path} can be written"))?;
    let refused = [Errno::ROFS, Errno::ACCESS].map(Errno::raw_os_error);
    ensure!(error.raw_os_error().is_some_and(|code| refused.contains(&code)), "{path}: {error}");
    Ok(())
}
