//! The VMM that this host's microVMs run in, as the user or the host decides.

use std::sync::Arc;

use engine::Shortage;
use images::Sha256Digest;
use vmm::{
    Vmm, VmmIdentity,
    backend::Acceleration,
    firecracker::{self, CpuTemplate, Firecracker, FirecrackerSettings},
    jail::Supervisor,
    qemu::{self, Qemu, QemuSettings},
};

use crate::{
    config::{self, VmmName},
    failure::Failure,
    host::{HostFacts, SUPERVISOR_ARGUMENT, own_program},
    settings::Global,
};

/// The backend.
pub(crate) fn chosen(global: &Global, facts: &HostFacts) -> Result<Arc<dyn Vmm>, Failure> {
    match facts.vmm(global) {
        VmmName::Qemu => Ok(Arc::new(Qemu::new(qemu_settings(global, facts)?))),
        VmmName::Firecracker => Ok(Arc::new(Firecracker::new(firecracker_settings(global, facts)?))),
    }
}

/// The failure of a host without QEMU.
pub(crate) fn no_qemu(error: qemu::ProbeError) -> Failure {
    let hint = match &error {
        qemu::ProbeError::Missing => "run: infra.operator setup",
        qemu::ProbeError::TooOld { .. } => "install a newer one and name it with --qemu",
        qemu::ProbeError::Unusable { .. } | qemu::ProbeError::Unknown { .. } => {
            "name a QEMU that works with --qemu"
        }
    };
    let hint = Shortage::of(&error, false).map_or(hint, Shortage::hint);
    Failure::host(error).hint(hint.to_owned())
}

fn no_firecracker(error: firecracker::ProbeError) -> Failure {
    let hint = match &error {
        firecracker::ProbeError::Missing => "run: infra.operator setup, or name one with --firecracker-bin",
        firecracker::ProbeError::NoJailer { .. } => "put the jailer of the same release beside it",
        firecracker::ProbeError::TooOld { .. } => "install a newer one: infra.operator setup",
        firecracker::ProbeError::Unusable { .. } | firecracker::ProbeError::Unknown { .. } => {
            "name a Firecracker that works with --firecracker-bin"
        }
    };
    let hint = Shortage::of(&error, false).map_or(hint, Shortage::hint);
    Failure::host(error).hint(hint.to_owned())
}

fn tsc_mhz(facts: &HostFacts) -> u32 {
    u32::try_from((facts.tsc_khz + 500) / 1000).unwrap_or(u32::MAX)
}

/// The processor that guests see: under a template the same, whichever the host's is, if it is of the same vendor.
fn shown_cpu(template: Option<&CpuTemplate>, facts: &HostFacts) -> String {
    let name = match template {
        None => return facts.cpu.clone(),
        Some(CpuTemplate::BuiltIn(name)) => (*name).to_owned(),
        Some(CpuTemplate::Custom(template)) => {
            // Of what it says, and not of how it is written down.
            format!("sha256:{}", Sha256Digest::of_bytes(template.to_string().as_bytes()))
        }
    };
    format!("{} under the template {name}", facts.cpu_vendor)
}

fn supervisor() -> Result<Supervisor, Failure> {
    Ok(Supervisor { program: own_program()?, args: vec![SUPERVISOR_ARGUMENT.to_owned()] })
}

/// Users of their own for VMMs can be had by root alone.
fn first_user(global: &Global) -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(global.config.vmm.first_uid)
}

fn qemu_settings(global: &Global, facts: &HostFacts) -> Result<QemuSettings, Failure> {
    let qemu = facts.qemu(global).map_err(no_qemu)?;
    let acceleration = facts.acceleration(global);
    let cpu = match acceleration {
        Acceleration::Kvm => facts.cpu.clone(),
        Acceleration::Tcg => "QEMU's max".to_owned(),
    };
    Ok(QemuSettings {
        program: qemu.program,
        identity: VmmIdentity {
            vmm: "qemu".to_owned(),
            version: qemu.version,
            acceleration,
            cpu,
            tsc_mhz: Some(tsc_mhz(facts)),
        },
        tsc_khz: facts.tsc_khz,
        supervisor: supervisor()?,
        first_user: first_user(global),
    })
}

fn firecracker_settings(global: &Global, facts: &HostFacts) -> Result<FirecrackerSettings, Failure> {
    let installation = facts.firecracker(global).map_err(no_firecracker)?;
    if !facts.kvm.is_usable() && global.config.vmm.acceleration != Some(config::Acceleration::Kvm) {
        return Err(Failure::host(anyhow::anyhow!(
            "Firecracker needs KVM, which this host cannot use: {}",
            facts.kvm
        ))
        .hint("use --vmm qemu; infra.operator doctor says more".to_owned()));
    }
    Ok(FirecrackerSettings {
        identity: VmmIdentity {
            vmm: "firecracker".to_owned(),
            version: installation.version.clone(),
            acceleration: Acceleration::Kvm,
            cpu: shown_cpu(global.config.vmm.cpu_template.as_ref(), facts),
            // It gives a clone the rate that it was saved with, or refuses.
            tsc_mhz: None,
        },
        installation,
        cpu_template: global.config.vmm.cpu_template.clone(),
        supervisor: supervisor()?,
        first_user: first_user(global),
    })
}
