//! The machine that the lab runs in.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use vmm::{host, qemu};

use super::disk::{LabDisk, make_disk};

/// The processors. One: with two, the kernel sometimes runs code that it has just patched for both of them, and crashes,
/// for an emulator does not notice in time; and the lab is slower. What goes wrong between processors, the tests without KVM
/// show.
const PROCESSORS: &str = "1";

const MEMORY_MIB: &str = "3584";

/// A model of processor that a lab is emulated with, as QEMU takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor(&'static str);

impl Processor {
    // `svm` and `npt` are all that KVM needs. What emulation lacks is taken away by name, or QEMU warns of each.

    /// The one that a lab has.
    pub const USUAL: Self = Self(
        "EPYC,+svm,+npt,-nrip-save,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,-xsavec",
    );

    /// A later model of the same vendor.
    pub const LATER: Self = Self(
        "EPYC-Rome,+svm,+npt,-nrip-save,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,\
         -xsavec,-xsaves,-clwb,-rdpid,-wbnoinvd,-perfctr-core,-clzero,-xsaveerptr,-ibpb,-amd-stibp,-umip",
    );
}

/// Without system management mode, which costs, and which nothing here uses.
const MACHINE: &str = "q35,smm=off,vmport=off";

/// A thread for the processor, and another for devices.
const ACCELERATION: &str = "tcg,thread=multi,tb-size=1024";

/// The timers that would find a slow machine broken are off: it is slow.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 quiet root=/dev/vda rw mitigations=off no_timer_check tsc=reliable \
     nowatchdog nmi_watchdog=0 rcupdate.rcu_cpu_stall_suppress=1 audit=0 random.trust_cpu=on panic=-1";

/// Free space on the second disk, for snapshots, in KiB.
const ROOM_KIB: u64 = 3 << 20;

/// What the lab says when its command has ended, before the exit status.
const EXIT: &str = "LAB-EXIT ";

/// How much of the kernel's last words is shown.
const LAST_WORDS_BYTES: usize = 3000;

/// A lab, and what is tried in it.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Its system.
    pub system: LabDisk,
    /// How long all may take.
    pub patience: Duration,
    /// How long it may say nothing.
    pub silence: Duration,
}

/// How a command in the lab ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit status.
    Exited(i32),
    /// With the lab's kernel, which is the lab's fault and nobody else's.
    Crashed,
}

/// What one boot of a lab is for.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The disk that the lab sees at `/lab`. What is written there stays for the next stage.
    pub disk: &'a Path,
    /// What the lab's command finds in its variable `LAB_STAGE`.
    pub name: &'a str,
    /// The processor.
    pub processor: Processor,
}

impl Lab {
    /// Makes a disk with the files of `payload`.
    pub fn payload_disk(payload: &Path, disk: &Path) -> Result<()> {
        make_disk(payload, disk, ROOM_KIB)
    }

    /// Boots a lab, runs the shell script `command` of its disk there, and hands each line that it prints to `line`.
    /// Files are made beneath `scratch`.
    pub fn run(&self, stage: Stage<'_>, scratch: &Path, mut line: impl FnMut(&str)) -> Result<Ended> {
        let console = scratch.join("console");
        let mut machine =
            Machine(self.command(stage, &console, scratch)?.spawn().context("start the lab's QEMU")?);
        let output = machine.0.stdout.take().context("its output was asked for")?;
        // Read by a thread of its own: lines are waited for with a deadline.
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + self.patience;
        let mut exited = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left.min(self.silence)) {
                Ok(text) => match text.strip_prefix(EXIT) {
                    Some(status) => exited = Some(status.trim().parse().context("the lab tells no status")?),
                    None => line(&text),
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if left <= self.silence => {
                    bail!("the lab took longer than {:?}: {}", self.patience, last_words(&console))
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the lab said nothing for {:?}: {}", self.silence, last_words(&console))
                }
            }
        }
        let status = machine.0.wait().context("wait for the lab's QEMU")?;
        if let Some(status) = exited {
            return Ok(Ended::Exited(status));
        }
        ensure!(status.success(), "the lab's QEMU failed ({status})");
        eprintln!("{}", last_words(&console));
        Ok(Ended::Crashed)
    }

    fn command(&self, stage: Stage<'_>, console: &Path, scratch: &Path) -> Result<Command> {
        let found = qemu::find(std::env::var_os("PATH").as_deref()).context("look for QEMU")?;
        // Emulated, the counter runs at this machine's rate, and a busy one mistakes it when it calibrates.
        // What the kernel does not know it hands to its first program as a variable.
        let append =
            format!("{KERNEL_COMMAND_LINE} tsc_early_khz={} LAB_STAGE={}", host::tsc_khz(), stage.name);
        let mut command = Command::new(found);
        command
            .args(["-machine", MACHINE, "-accel", ACCELERATION, "-cpu", stage.processor.0])
            .args(["-smp", PROCESSORS, "-m", MEMORY_MIB])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(self.system.kernel())
            .arg("-initrd")
            .arg(self.system.initramfs())
            .args(["-append", &append])
            .args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"])
            .args(["-chardev", "stdio,id=output,signal=off", "-device", "virtconsole,chardev=output"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()));
        // Writes to the system go to a temporary file.
        for (name, file, snapshot) in
            [("system", self.system.disk(), "on"), ("payload", stage.disk.to_owned(), "off")]
        {
            let file = file.display();
            let drive = format!("file={file},if=none,id={name},format=raw,snapshot={snapshot},cache=unsafe");
            command.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive={name}")]);
        }
        command.env("TMPDIR", scratch).stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }
}

/// A running lab. Dropping it switches it off.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended, and been waited for, by now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn last_words(console: &Path) -> String {
    let said = fs::read(console).unwrap_or_default();
    let end = &said[said.len().saturating_sub(LAST_WORDS_BYTES)..];
    format!("its kernel's last words:\n{}", String::from_utf8_lossy(end))
}
