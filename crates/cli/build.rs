//! Compiles the programs in C of `infra.operator selftest`, and lists all programs for it as `selftest_programs.rs`.
//!
//! They are linked with nothing, so that they run in every guest.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

const PROGRAMS: &str = "src/commands/selftest/programs";

/// Small, without what a library would have to bring, and the same wherever they are compiled.
const FLAGS: [&str; 14] = [
    "-std=gnu11",
    "-Os",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-infinite-recursion",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-optimize-sibling-calls",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none,-s",
];

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(PROGRAMS);
    println!("cargo::rerun-if-changed={PROGRAMS}");
    println!("cargo::rerun-if-changed=build.rs");
    let output = PathBuf::from(env::var("OUT_DIR")?);
    let mut sources: Vec<PathBuf> =
        fs::read_dir(&directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    sources.sort();
    let mut list = String::from("static PROGRAMS: &[Program] = &[\n");
    for source in sources {
        let runs = match source.extension().and_then(|extension| extension.to_str()) {
            Some("c") => compile(&source, &output)?,
            Some("py" | "sh") => source.clone(),
            _ => continue,
        };
        let name = source.file_name().ok_or("a file without a name")?.to_string_lossy();
        let (source, runs) = (source.to_string_lossy(), runs.to_string_lossy());
        writeln!(
            list,
            "    Program {{ name: {name:?}, source: include_str!({source:?}), runs: include_bytes!({runs:?}) }},"
        )?;
    }
    list += "];\n";
    fs::write(output.join("selftest_programs.rs"), list)?;
    Ok(())
}

fn compile(source: &Path, output: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let program = output.join(source.file_stem().ok_or("a file without a name")?);
    let compiler = cc::Build::new().try_get_compiler()?;
    let status = compiler.path().to_owned();
    let status =
        std::process::Command::new(status).args(FLAGS).arg("-o").arg(&program).arg(source).status()?;
    if !status.success() {
        return Err(format!("compiling {} failed: {status}", source.display()).into());
    }
    Ok(program)
}
