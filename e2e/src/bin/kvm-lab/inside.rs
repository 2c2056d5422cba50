//! The lab: takes the steps one by one, and reports each.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use e2e::{
    TestHost,
    running::{Process, Running},
};
use kvm_ioctls::Kvm;

use crate::{
    report::{Line, Step},
    steps,
};

/// The data directory in the lab.
const DATA: &str = "/lab/data";

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

    /// What its processes' names begin with.
    pub(crate) fn process_name(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu-system",
        }
    }

    fn options(self) -> &'static [&'static str] {
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

/// Tries these VMMs; whether all was well.
pub(crate) fn run(vmms: &[&str]) -> Result<bool> {
    // Where the first microVM begins and the last one ends, the kernel patches itself, and emulated processors do not
    // always notice. With one empty machine that stays, nothing is ever first or last.
    let kvm = Kvm::new().context("open /dev/kvm")?;
    let _lasting = kvm.create_vm().context("make a virtual machine")?;
    // Failures are reported, not printed.
    panic::set_hook(Box::new(|_| ()));

    let vmms = [Vmm::Firecracker, Vmm::Qemu].into_iter().filter(|vmm| vmms.contains(&vmm.name()));
    let plans: Vec<_> = vmms.map(|vmm| (vmm, steps::planned(vmm))).collect();
    let names = plans.iter().flat_map(|(_, steps)| steps.iter().map(|step| step.name.clone())).collect();
    println!("{}", Line::Plan(names).text());
    let mut all_well = true;
    for (vmm, steps) in plans {
        let host = TestHost::at(&PathBuf::from(DATA)).with_options(vmm.options());
        let mut trial = Trial { vmm, host, endless: None };
        for step in steps {
            let ok = take(step.name, step.action, &mut trial);
            all_well &= ok;
            if !ok && step.is_needed {
                break;
            }
        }
    }
    Ok(all_well)
}

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
