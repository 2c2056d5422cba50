//! Snapshots: whether each can be restored here and now.

use engine::NotPrepared;
use store::snapshot::Size;

use super::{finding::Finding, fix::Shell};

/// A snapshot.
pub(super) struct SnapshotFacts {
    /// Its language.
    pub(super) language: String,
    /// Whether this release knows that.
    pub(super) is_known: bool,
    /// Its size.
    pub(super) size: Size,
    /// Where it lies, as a shell reads it.
    pub(super) directory: String,
    /// What its check found.
    pub(super) verdict: Verdict,
}

/// What a check found.
pub(super) enum Verdict {
    /// It can be restored.
    Usable,
    /// It cannot.
    Unusable(NotPrepared),
    /// Its manifest alone says that it cannot.
    Manifest(String),
    /// There is no VMM that could restore it.
    Unchecked,
}

/// The snapshots, and the languages that have an image and none. `first` is the language to begin with.
pub(super) fn snapshots(
    facts: &[SnapshotFacts],
    languages_with_image: &[String],
    first: &str,
    shell: &Shell,
) -> Vec<Finding> {
    let mut findings: Vec<_> = facts.iter().map(|facts| snapshot(facts, shell)).collect();
    let create = |language: &str| shell.operator(&format!("snapshot create --lang {language}"));
    for language in languages_with_image {
        if !facts.iter().any(|facts| facts.language == *language) {
            let detail = "there is none: each program waits for a boot";
            findings.push(Finding::warning(format!("snapshot {language}"), detail, create(language)));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::warning(
            "snapshots",
            "there are none: each program waits for a boot",
            create(first),
        ));
    }
    findings
}

fn snapshot(facts: &SnapshotFacts, shell: &Shell) -> Finding {
    let SnapshotFacts { language, size, directory, .. } = facts;
    let name = format!("snapshot {language} {size}");
    if !facts.is_known {
        let fix = format!("rm -r {directory}");
        return Finding::warning(name, "is of no language that this release has", fix);
    }
    let Size { memory_mib, vcpus } = size;
    let create =
        shell.operator(&format!("snapshot create --lang {language} --mem {memory_mib} --vcpus {vcpus}"));
    match &facts.verdict {
        Verdict::Usable => Finding::ok(name, "can be restored"),
        Verdict::Unchecked => {
            let fix = shell.operator("snapshot verify");
            Finding::warning(name, "cannot be checked without QEMU", format!("once there is QEMU: {fix}"))
        }
        Verdict::Manifest(reason) => Finding::problem(name, reason.clone(), create),
        Verdict::Unusable(problem) => {
            let fix = match problem {
                // A new image is another one: the snapshot will not fit it.
                NotPrepared::Image { .. } => format!("{} && {create}", shell.with_flags(&problem.command())),
                // These name `doctor`.
                NotPrepared::Verify(_) | NotPrepared::Unsupported => create,
                _ => shell.with_flags(&problem.command()),
            };
            Finding::problem(name, super::super::snapshot::reason(problem), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use store::snapshot::{ManifestError, Mismatch};
    use vmm::MachineSpec;

    use super::{super::finding::Status, *};

    const ROOT: Shell = Shell { is_root: true, flags: String::new() };
    const CREATE: &str = "infra.operator snapshot create --lang python --mem 512 --vcpus 1";

    fn judged(verdict: Verdict) -> (Status, String, String) {
        let facts = SnapshotFacts {
            language: "python".to_owned(),
            is_known: true,
            size: Size { memory_mib: 512, vcpus: 1 },
            directory: "/d".to_owned(),
            verdict,
        };
        let finding = snapshot(&facts, &ROOT);
        assert_eq!(finding.name, "snapshot python 512m-1c");
        (finding.status, finding.detail, finding.fix.unwrap_or_default())
    }

    fn mismatch(source: Mismatch) -> Verdict {
        let machine = MachineSpec { memory_mib: 512, vcpus: 1 };
        Verdict::Unusable(NotPrepared::Mismatch {
            language: "python".parse().expect("a language"),
            machine,
            source,
        })
    }

    #[test]
    fn snapshots_are_usable_stale_damaged_malformed_or_unchecked() {
        assert_eq!(judged(Verdict::Usable), (Status::Ok, "can be restored".to_owned(), String::new()));
        let machine = MachineSpec { memory_mib: 512, vcpus: 1 };
        let malformed = NotPrepared::Manifest {
            language: "python".parse().expect("a language"),
            machine,
            source: ManifestError::TooLarge { path: "/d/manifest.json".into() },
        };
        for (verdict, part) in [
            (mismatch(Mismatch::Rootfs { path: "/i".into() }), "the image /i has changed since"),
            (
                mismatch(Mismatch::Damaged { path: "/m".into(), what: "short".to_owned() }),
                "/m is damaged: short",
            ),
            (mismatch(Mismatch::Protocol { was: 1, is: 2 }), "generation 1"),
            (Verdict::Unusable(malformed), "too large"),
            (Verdict::Manifest("no manifest".to_owned()), "no manifest"),
        ] {
            let (status, detail, fix) = judged(verdict);
            assert_eq!((status, fix.as_str()), (Status::Problem, CREATE));
            assert!(detail.contains(part), "{detail}");
        }
        let image = NotPrepared::Image { path: "/i".into(), language: "python".parse().expect("a language") };
        let (_, _, fix) = judged(Verdict::Unusable(image));
        assert_eq!(fix, format!("infra.operator rootfs create --lang python && {CREATE}"));
        let (status, detail, _) = judged(Verdict::Unchecked);
        assert_eq!((status, detail.as_str()), (Status::Warning, "cannot be checked without QEMU"));
    }

    #[test]
    fn none_at_all_or_none_of_an_image_is_a_warning_with_the_command_that_makes_one() {
        for images in [vec![], vec!["python".to_owned()]] {
            let findings = snapshots(&[], &images, "python", &ROOT);
            assert_eq!((findings.len(), findings[0].status), (1, Status::Warning));
            assert_eq!(findings[0].fix.as_deref(), Some("infra.operator snapshot create --lang python"));
        }
    }
}
