//! Whether this host's KVM is worth using.
//!
//! That `/dev/kvm` opens says little: there are hosts that emulate every kernel instruction of a guest, a
//! thousandfold too slow. So a scratch virtual machine runs a short loop at CPL 0, against the clock.

use std::{
    fs::File,
    io,
    time::{Duration, Instant},
};

use kvm_ioctls::{Kvm, VcpuExit};
use serde::{Deserialize, Serialize};

use crate::sys::ScratchMemory;

/// Where the kernel offers it.
pub const DEVICE: &str = "/dev/kvm";

/// `mov ecx, ITERATIONS; 1: dec ecx; jnz 1b; hlt`, in real mode with 32-bit operands.
const LOOP: [u8; 12] = [0x66, 0xb9, 0x20, 0x4e, 0x00, 0x00, 0x66, 0x49, 0x75, 0xfc, 0xf4, 0x90];

/// The loop's length: 0x4e20.
const ITERATIONS: u32 = 20_000;

/// What the loop may take on a processor that executes it. A real one needs some 10 µs and an emulator, at 2 µs an
/// instruction, 80 ms; entering and leaving the guest takes tens of µs, hundreds where KVM is nested.
const LIMIT: Duration = Duration::from_millis(8);

/// What there is to say about a host's KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "snake_case")]
pub enum KvmVerdict {
    /// It executes guests on the processor.
    Usable,
    /// There is none.
    Missing,
    /// It is there, and this user may not open it.
    Forbidden,
    /// It is there, and something else is using the processor's virtualization.
    Busy,
    /// It works, and emulates what it should execute.
    Emulated {
        /// The time per instruction, in nanoseconds.
        nanos_per_instruction: u64,
    },
    /// It is there and does not work.
    Broken {
        /// What failed.
        reason: String,
    },
}

impl KvmVerdict {
    /// Whether microVMs should use it.
    pub fn is_usable(&self) -> bool {
        *self == Self::Usable
    }
}

impl std::fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usable => write!(f, "{DEVICE} executes guests on the processor"),
            Self::Missing => write!(f, "there is no {DEVICE}"),
            Self::Forbidden => write!(f, "{DEVICE} may not be opened by this user"),
            Self::Busy => write!(f, "{DEVICE} is in use by another hypervisor"),
            Self::Emulated { nanos_per_instruction } => write!(
                f,
                "{DEVICE} emulates kernel instructions ({nanos_per_instruction} ns each): too slow to be used"
            ),
            Self::Broken { reason } => write!(f, "{DEVICE} does not work: {reason}"),
        }
    }
}

/// Finds out. Takes less than a millisecond where KVM is usable or missing, and some 100 ms where it is emulated.
pub fn probe() -> KvmVerdict {
    // Kvm::new would open it too; what keeps it from being opened is told apart here.
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        return match error.kind() {
            io::ErrorKind::NotFound => KvmVerdict::Missing,
            io::ErrorKind::PermissionDenied => KvmVerdict::Forbidden,
            io::ErrorKind::ResourceBusy => KvmVerdict::Busy,
            _ => KvmVerdict::Broken { reason: error.to_string() },
        };
    }
    match time_loop() {
        Ok(time) if time <= LIMIT => KvmVerdict::Usable,
        Ok(time) => {
            let instructions = u128::from(2 * ITERATIONS);
            let nanos = u64::try_from(time.as_nanos() / instructions).unwrap_or(u64::MAX);
            KvmVerdict::Emulated { nanos_per_instruction: nanos }
        }
        Err(reason) if reason.busy => KvmVerdict::Busy,
        Err(reason) => KvmVerdict::Broken { reason: reason.text },
    }
}

struct Failure {
    busy: bool,
    text: String,
}

/// The best of a few runs, so that a busy host does not make a good KVM look bad.
fn time_loop() -> Result<Duration, Failure> {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(run_loop()?);
        if best <= LIMIT {
            break;
        }
    }
    Ok(best)
}

fn run_loop() -> Result<Duration, Failure> {
    let failed = |doing: &'static str| {
        move |error: kvm_ioctls::Error| Failure {
            busy: error.errno() == libc::EBUSY,
            text: format!("{doing}: {error}"),
        }
    };
    let memory = ScratchMemory::with_code(&LOOP)
        .map_err(|error| Failure { busy: false, text: format!("map memory: {error}") })?;
    let kvm = Kvm::new().map_err(failed("open"))?;
    if kvm.get_api_version() != 12 {
        return Err(Failure { busy: false, text: format!("API version {}, not 12", kvm.get_api_version()) });
    }
    let vm = kvm.create_vm().map_err(failed("create a virtual machine"))?;
    memory.give_to(&vm).map_err(failed("give it memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed("create a virtual processor"))?;
    let mut segments = vcpu.get_sregs().map_err(failed("read its segments"))?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    vcpu.set_sregs(&segments).map_err(failed("set its segments"))?;
    let mut registers = vcpu.get_regs().map_err(failed("read its registers"))?;
    registers.rip = 0;
    // Bit 1 is always set.
    registers.rflags = 2;
    vcpu.set_regs(&registers).map_err(failed("set its registers"))?;
    let start = Instant::now();
    match vcpu.run().map_err(failed("run it"))? {
        VcpuExit::Hlt => Ok(start.elapsed()),
        other => Err(Failure { busy: false, text: format!("unexpected exit {other:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_is_as_long_as_the_verdict_assumes() {
        assert_eq!(u32::from_le_bytes([LOOP[2], LOOP[3], LOOP[4], LOOP[5]]), ITERATIONS);
    }

    #[test]
    fn the_probe_answers_on_every_host() {
        let verdict = probe();
        assert_eq!(verdict.is_usable(), verdict == KvmVerdict::Usable, "{verdict}");
    }
}
