//! What is tried on a host with another processor, with snapshots that were made on the first one.

use anyhow::{Result, ensure};

use crate::inside::{Planned, Trial};

/// A CPU template that both processors fit, where the first stage has put it.
pub(crate) const TEMPLATE: &str = "/lab/template.json";

/// What the template hides: features that one model has and the other has not, or that a fleet would rather not rely on.
pub(crate) const TEMPLATE_JSON: &str = include_str!("../../../lab/template.json");

/// The size of the snapshot that was made with the template, in MiB: another than that of the one that was made without.
pub(crate) const TEMPLATE_MEMORY: &str = "256";

/// The steps.
pub(crate) fn planned() -> Vec<Planned> {
    let mut steps = Vec::new();
    let mut add = |name: &str, action: fn(&mut Trial) -> Result<String>| {
        let name = format!("firecracker, another processor: {name}");
        steps.push(Planned { name, is_needed: false, action: Box::new(action) });
    };
    add("a snapshot of the first processor is refused, and why is said", refused);
    add("without one that fits, the microVM is booted", booted);
    add("a snapshot that was made with a template is accepted with the same template", accepted);
    add("and refused without it", refused_without_template);
    steps
}

const HELLO: [&str; 6] = ["host", "--lang", "python", "--code", "print('Hello, World!')", "--mem"];

fn refused(trial: &mut Trial) -> Result<String> {
    let ended = trial.host.ended(&[&HELLO[..], &["512", "--snapshot"]].concat());
    ensure!(ended.code == 3 && ended.error().starts_with("E009"), "{ended:?}");
    let reason = ended.stderr.lines().find(|line| line.contains("it was made for the processor"));
    ensure!(ended.stderr.contains("snapshot create"), "no hint: {ended:?}");
    Ok(reason.map(str::to_owned).unwrap_or_default())
}

fn booted(trial: &mut Trial) -> Result<String> {
    // The default size, which is that of the snapshot of the first processor.
    let arguments = ["run", "--lang", "python", "--code", "print('Hello, World!')"];
    let ended = trial.host.ended(&arguments);
    ensure!(ended.code == 0 && ended.json()["stdout"] == "Hello, World!\n", "{ended:?}");
    ensure!(ended.stderr.contains("booting instead"), "{ended:?}");
    Ok(String::new())
}

fn accepted(trial: &mut Trial) -> Result<String> {
    let options = [TEMPLATE_MEMORY, "--snapshot", "--cpu-template", TEMPLATE];
    let ended = trial.host.ended(&[&HELLO[..], &options].concat());
    ensure!(ended.code == 0 && ended.json()["stdout"] == "Hello, World!\n", "{ended:?}");
    Ok(String::new())
}

fn refused_without_template(trial: &mut Trial) -> Result<String> {
    let ended = trial.host.ended(&[&HELLO[..], &[TEMPLATE_MEMORY, "--snapshot"]].concat());
    ensure!(ended.code == 3 && ended.stderr.contains("under the template sha256:"), "{ended:?}");
    Ok(String::new())
}
