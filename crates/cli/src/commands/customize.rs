//! `infra.operator rootfs customize`: adds to an image, all or nothing.

use std::{process::ExitCode, sync::Arc};

use clap::builder::RangedU64ValueParser;
use engine::Languages;
use images::rootfs::{self, CustomizeRootfs, RootfsDetails, RootfsSource, Step};
use indicatif::HumanBytes;

use super::rootfs::unknown_language;
use crate::{
    data_owner::Workshop,
    failure::{Failure, OrFail as _},
    host::{STEPS_ARGUMENT, own_program},
    output::Steps,
    settings::Global,
    signals::blocking,
};

/// Arguments of `rootfs customize`.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("steps").required(true).multiple(true).args(["packages", "pip", "run"])))]
#[command(after_help = "Examples:
  infra.operator rootfs customize --lang python --pip numpy,pandas
  infra.operator rootfs customize --lang python --packages git --run 'git config --system user.name sandbox'

Packages come first, then pip, then the commands, in the order in which they are given. All run as root in the image,
in a container of their own with this host's network: do it with images that you have reason to trust.")]
pub(crate) struct CustomizeArgs {
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: String,

    /// Packages of the image's distribution; in images made of Debian packages also libraries of the language
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    packages: Vec<String>,

    /// Python packages, as pip install has them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pip: Vec<String>,

    /// A command line for the image's shell. May be given several times
    #[arg(long, value_name = "COMMAND")]
    run: Vec<String>,

    /// The new size of the image, in MiB [default: 512 MiB free before the first step]
    #[arg(long, value_name = "MIB", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_048_576))]
    size: Option<u64>,
}

/// Does it.
pub(super) async fn run(args: CustomizeArgs, global: &Global) -> Result<ExitCode, Failure> {
    let languages = Languages::built_in();
    let spec = languages.find(&args.lang).ok_or_else(|| unknown_language(&args.lang, &languages))?.clone();
    let place = global.data().image(&spec.name);
    if !place.exists() {
        let hint = format!("run: infra.operator rootfs create --lang {}", spec.name);
        return Err(Failure::host(anyhow::anyhow!("there is no image {}", place.display())).hint(hint));
    }
    let workshop = Workshop::needed(global, &place)?;
    let image = match &workshop {
        Some(workshop) => {
            workshop.bring()?;
            workshop.image()
        }
        None => place.clone(),
    };
    let inside = (own_program()?, STEPS_ARGUMENT);
    let steps = Arc::new(Steps::new());
    let progress = Arc::clone(&steps);
    let language = spec.name.clone();
    let made = blocking(move || {
        let details = RootfsDetails::of_image(&image).ok().flatten();
        let is_debian = matches!(details.map(|details| details.source), Some(RootfsSource::Debian { .. }));
        let packages = match args.packages {
            packages if is_debian && !packages.is_empty() => {
                rootfs::map_packages(language.as_str(), &packages).or_fail()?
            }
            packages => packages,
        };
        let lists = [(packages, Step::Packages as fn(_) -> _), (args.pip, Step::Pip)];
        let mut steps: Vec<Step> = lists
            .into_iter()
            .filter(|(names, _)| !names.is_empty())
            .map(|(names, step)| step(names))
            .collect();
        steps.extend(args.run.into_iter().map(Step::Run));
        let request = CustomizeRootfs { image, steps, size_mib: args.size, inside };
        rootfs::customize(&request, &*progress).or_fail()
    })
    .await?;
    if let Some(workshop) = workshop {
        workshop.hand_over()?;
    }
    steps.finish();
    crate::output::say!("changed {} ({})", place.display(), HumanBytes(made.size_bytes));
    let stale = store::snapshot::Catalogue::new(global.data().snapshots());
    if stale.list().unwrap_or_default().iter().any(|entry| entry.language == spec.name) {
        let renew = global.typed(&format!("run: infra.operator snapshot create --lang {}", spec.name));
        crate::output::say!("hint: its snapshots are stale now; {renew}");
    }
    Ok(ExitCode::SUCCESS)
}
