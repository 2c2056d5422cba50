//! The command: has everything looked at, and prints what was found.

use std::{io::IsTerminal as _, process::ExitCode, sync::Arc};

use vmm::qemu;

use super::{
    finding::{Report, Status},
    fix::{Shell, quote},
    look::{self, Looked},
};
use crate::{
    config::Acceleration,
    failure::{DONE, Failure, HOST},
    host::find_qemu,
    output::{self, Steps},
    settings::Global,
    signals::blocking,
};

/// Arguments of `doctor`.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 no problem was found (there may be warnings); 3 a problem was found.

What was made once and cannot be used now (a snapshot of an image that has changed) is a problem; what was never \
made is a warning. Fixes are best applied from the top down.

Where KVM executes microVMs, doctor also looks at what tenants who share a host need of it: SMT, known vulnerabilities, \
microcode, merged memory, swap, the kernel. These are warnings at most. --accel kvm looks at them elsewhere too.")]
pub(crate) struct DoctorArgs {
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(in super::super) async fn run(args: DoctorArgs, global: &Global) -> Result<ExitCode, Failure> {
    let steps = Arc::new(Steps::new());
    let (own_global, progress) = (global.clone(), Arc::clone(&steps));
    let (shell, looked) = blocking(move || {
        let found = find_qemu(&own_global).and_then(|program| qemu::version(&program));
        let shell = shell(&own_global, found.is_ok());
        let looked = look::at_host(&own_global, found, &shell, &*progress);
        (shell, looked)
    })
    .await;
    let Looked { mut findings, has_qemu, languages } = looked;
    findings.extend(look::at_snapshots(global, has_qemu, &languages, &shell, Arc::clone(&steps) as _).await);
    steps.finish();
    let report = Report::new(findings);
    if args.json {
        output::json(&report)?;
    } else {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = std::io::stdout().is_terminal() && !no_colour;
        report.lines(colours).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(ExitCode::from(if report.status == Status::Problem { HOST } else { DONE }))
}

/// How fixes are written: a command without the flags that this one has would mend something else. A QEMU that does
/// not work is not named again.
fn shell(global: &Global, has_qemu: bool) -> Shell {
    let mut flags = global.flags_about_data();
    let vmm = &global.config.vmm;
    if let Some(program) = &vmm.qemu
        && has_qemu
        && global.is_flag("vmm.qemu")
    {
        flags += " --qemu ";
        flags += &quote(program);
    }
    if let Some(acceleration) = vmm.acceleration
        && global.is_flag("vmm.acceleration")
    {
        flags.push_str(match acceleration {
            Acceleration::Kvm => " --accel kvm",
            Acceleration::Tcg => " --accel tcg",
        });
    }
    Shell { is_root: rustix::process::geteuid().is_root(), flags }
}
