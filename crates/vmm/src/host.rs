//! Facts about this host that guests and snapshots depend on.

use std::{fs, time::Duration};

/// The processor's model, as the kernel names it.
pub fn cpu_model() -> String {
    let text = cpu_description();
    let part = |name| field(&text, name).unwrap_or("?");
    let (model, family) = (part("model name"), part("cpu family"));
    format!("{model} (family {family} model {} stepping {})", part("model\t"), part("stepping"))
}

/// The processor's vendor, as it names itself: `GenuineIntel`, `AuthenticAMD`.
pub fn cpu_vendor() -> String {
    field(&cpu_description(), "vendor_id").unwrap_or("?").to_owned()
}

fn cpu_description() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

fn field<'a>(description: &'a str, name: &str) -> Option<&'a str> {
    description.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

/// The rate of the time-stamp counter in kHz, measured for 50 ms. Two measurements agree to some kHz.
pub fn tsc_khz() -> u64 {
    crate::sys::measure_tsc_khz(Duration::from_millis(50))
}

/// An id that changes at every boot of the host.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
