//! The lab: takes the steps one by one, and reports each.

use std::{
    any::Any,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    TestHost,
    running::{Process, Running},
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vmm::conformance;

use crate::{
    elsewhere,
    report::{Line, Step},
    steps,
};

/// What everything in the lab lies beneath.
const LAB: &str = "/lab";

/// Firecracker's program in the lab.
pub(crate) const FIRECRACKER: &str = "/lab/firecracker/firecracker";

/// A VMM that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vmm {
    /// Firecracker under its jailer.
    Firecracker,
    /// QEMU with KVM.
    Qemu,
}

impl Vmm {
    /// Its name, as in the flag `--vmm`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu",
        }
    }

    /// A directory of its own in the lab, of this name.
    pub(crate) fn directory(self, name: &str) -> PathBuf {
        Path::new(LAB).join(self.name()).join(name)
    }

    /// Its data directory, with the kernel bundle and the images that were brought along.
    fn data(self) -> Result<PathBuf> {
        let data = self.directory("data");
        if !data.exists() {
            fs::create_dir_all(&data).context("make a data directory")?;
            let mut linking = Command::new("cp");
            linking
                .args(["--recursive", "--link"])
                .args(["kernel", "images"].map(|part| Path::new(LAB).join(part)));
            ensure!(linking.arg(&data).status().context("run cp")?.success(), "cannot make a data directory");
        }
        Ok(data)
    }

    /// What its processes' names begin with.
    pub(crate) fn process_name(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu-system",
        }
    }

    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Firecracker => {
                &["--vmm", "firecracker", "--firecracker-bin", "/lab/firecracker/firecracker", "--slots", "8"]
            }
            Self::Qemu => &["--vmm", "qemu", "--accel", "kvm", "--slots", "8"],
        }
    }
}

/// What the steps with one VMM work on.
pub(crate) struct Trial {
    /// The VMM.
    pub(crate) vmm: Vmm,
    /// The product, told to use it.
    pub(crate) host: TestHost,
    /// A command whose program never ends, and its VMM, while the jail is looked at.
    pub(crate) endless: Option<(Running, Process)>,
    /// The same VMM's backend, while its promises are tried.
    pub(crate) conformance: Option<conformance::Trial>,
}

/// Something to be tried. What it returns is shown.
pub(crate) type Action = Box<dyn FnOnce(&mut Trial) -> Result<String>>;

/// A named thing to be tried.
pub(crate) struct Planned {
    /// Its name.
    pub(crate) name: String,
    /// Whether nothing that follows can work without.
    pub(crate) is_needed: bool,
    /// What is done.
    pub(crate) action: Action,
}

/// Takes the steps of a stage; whether all was well.
pub(crate) fn run(stage: &str) -> Result<bool> {
    let _lasting = keep_the_kernel_as_it_is().context("make machines that stay")?;
    // Failures are reported, not printed.
    panic::set_hook(Box::new(|_| ()));

    let (vmm, planned) = match stage {
        "firecracker" => (Vmm::Firecracker, steps::planned(Vmm::Firecracker)),
        "qemu" => (Vmm::Qemu, steps::planned(Vmm::Qemu)),
        "elsewhere" => (Vmm::Firecracker, elsewhere::planned()),
        _ => bail!("there is no stage {stage:?}"),
    };
    println!("{}", Line::Plan(planned.iter().map(|step| step.name.clone()).collect()).text());
    let host = TestHost::at(&vmm.data()?).with_options(vmm.options());
    let mut trial = Trial { vmm, host, endless: None, conformance: None };
    let mut all_well = true;
    for step in planned {
        let ok = take(step.name, step.action, &mut trial);
        all_well &= ok;
        if !ok && step.is_needed {
            break;
        }
    }
    Ok(all_well)
}

/// Has the kernel patch itself once, before anything depends on it: where a microVM is the first of its kind, or the last,
/// it does, and emulated processors do not always notice. With machines that stay, of each kind that KVM has a switch
/// for (`arch/x86/kvm/lapic.c` of Linux), nothing is ever first or last: without a local interrupt controller, with one
/// that software has not enabled, and with one that is off.
fn keep_the_kernel_as_it_is() -> Result<Vec<(VmFd, VcpuFd)>> {
    let kvm = Kvm::new()?;
    let plain = kvm.create_vm()?;
    let processor = plain.create_vcpu(0)?;
    let mut lasting = vec![(plain, processor)];
    for is_off in [false, true] {
        let machine = kvm.create_vm()?;
        machine.create_irq_chip()?;
        let processor = machine.create_vcpu(0)?;
        if is_off {
            let mut registers = processor.get_sregs()?;
            registers.apic_base &= !APIC_ENABLED;
            processor.set_sregs(&registers)?;
        }
        lasting.push((machine, processor));
    }
    Ok(lasting)
}

/// The bit of the local interrupt controller's base address that says that it is there.
const APIC_ENABLED: u64 = 1 << 11;

fn take(name: String, action: Action, trial: &mut Trial) -> bool {
    let started = Instant::now();
    let done = panic::catch_unwind(AssertUnwindSafe(|| action(trial)));
    let (ok, detail) = match done {
        Ok(Ok(detail)) => (true, detail),
        Ok(Err(error)) => (false, format!("{error:#}")),
        Err(panicked) => (false, message(panicked.as_ref())),
    };
    let step = Step { name, ok, detail, seconds: started.elapsed().as_secs_f64() };
    println!("{}", Line::Step(step).text());
    ok
}

fn message(panicked: &(dyn Any + Send)) -> String {
    let text = panicked.downcast_ref::<String>().cloned();
    text.or_else(|| panicked.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Where the lab finds its scripts' interpreter.
pub(crate) fn python() -> &'static Path {
    Path::new("/usr/bin/python3")
}
