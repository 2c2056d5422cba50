//! Each verdict on the data directory, from made-up facts.

use super::{super::finding::Status, *};

const ROOT: Shell = Shell { is_root: true, flags: String::new() };
const USER: Shell = Shell { is_root: false, flags: String::new() };

fn denied() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn judged(state: DirectoryState, user: u32) -> (Status, String) {
    let shell = if user == 0 { ROOT } else { USER };
    let finding = directory(&DirectoryFacts { path: "/d".into(), user, state }, &shell);
    (finding.status, finding.fix.unwrap_or_default())
}

fn present(owner: u32, mode: u32, obstacle: Option<io::ErrorKind>) -> DirectoryState {
    let obstacle = obstacle.map(|kind| ("/d/run".into(), kind.into()));
    DirectoryState::Present { owner, mode, obstacle }
}

#[test]
fn the_data_directory_is_missing_forbidden_somebody_elses_or_good() {
    let (missing, cannot) =
        (DirectoryState::Missing { obstacle: None }, DirectoryState::Missing { obstacle: Some(denied()) });
    assert_eq!(judged(missing, 0), (Status::Warning, "infra.operator setup".to_owned()));
    let (status, fix) = judged(cannot, 1000);
    assert!(status == Status::Problem && fix.starts_with("sudo install --directory"), "{fix}");
    assert_eq!(judged(DirectoryState::Hidden(denied()), 1000).0, Status::Problem);
    assert_eq!(judged(DirectoryState::NoDirectory, 0).0, Status::Problem);
    let take = "sudo chown -R \"$(id -u):$(id -g)\" /d".to_owned();
    let unwritable = present(0, 0o755, Some(io::ErrorKind::PermissionDenied));
    assert_eq!(judged(unwritable, 1000), (Status::Problem, take.clone()));
    assert_eq!(judged(present(1001, 0o755, None), 1000), (Status::Warning, take));
    let (status, fix) = judged(present(0, 0o755, Some(io::ErrorKind::ReadOnlyFilesystem)), 0);
    assert!(status == Status::Problem && fix.starts_with("mount -o remount,rw"), "{fix}");
    assert_eq!(judged(present(0, 0o777, None), 0), (Status::Warning, "chmod go-w /d".to_owned()));
    assert_eq!(judged(present(0, 0o755, None), 0), (Status::Ok, String::new()));
}

#[test]
fn the_disk_has_room_is_nearly_full_or_full() {
    let path = Path::new("/d");
    for (free_mib, free_files, expected) in [
        (4096, Some(1_000_000), Status::Ok),
        (1024, None, Status::Ok),
        (1023, None, Status::Warning),
        (63, None, Status::Problem),
        (4096, Some(0), Status::Problem),
    ] {
        let finding = disk(Some(DiskFacts { free_mib, free_files }), path, &ROOT);
        assert_eq!(finding.status, expected, "{finding:?}");
        assert_eq!(finding.fix.is_some(), expected != Status::Ok);
    }
    assert_eq!(disk(None, path, &ROOT).status, Status::Warning);
}

#[test]
fn a_kernel_bundle_that_is_missing_damaged_or_old_is_a_problem() {
    let digest = images::Sha256Digest::of_bytes(b"");
    let manifest = BundleManifest {
        format_version: 1,
        kernel_release: "6.1.0".to_owned(),
        source: String::new(),
        vmlinux_sha256: digest.clone(),
        vmlinux_bytes: 0,
        initramfs_sha256: digest.clone(),
        initramfs_bytes: 0,
        agent_sha256: digest,
    };
    assert_eq!(bundle(Ok((&manifest, true)), &ROOT), Finding::ok("kernel bundle", "Linux 6.1.0"));
    let path = || PathBuf::from("/d/kernel/vmlinux");
    let cases = [
        (bundle(Ok((&manifest, false)), &ROOT), "infra.operator setup"),
        (bundle(Err(&OpenKernelError::Absent { directory: path() }), &ROOT), "infra.operator setup"),
        (
            bundle(Err(&OpenKernelError::Size { path: path(), found: 1, expected: 2 }), &ROOT),
            "infra.operator setup",
        ),
        (bundle(Err(&OpenKernelError::Digest { path: path() }), &ROOT), "infra.operator setup --renew"),
        (
            bundle(Err(&OpenKernelError::Read { path: path(), source: denied() }), &USER),
            "sudo chmod a+r /d/kernel/vmlinux",
        ),
    ];
    for (finding, fix) in cases {
        assert_eq!(
            (finding.status, finding.fix.as_deref()),
            (Status::Problem, Some(fix)),
            "{}",
            finding.detail
        );
    }
}

#[test]
fn images_are_good_damaged_unknown_or_missing() {
    let facts = |language: &str, is_known, problem: Option<&str>| ImageFacts {
        language: language.to_owned(),
        is_known,
        path: format!("/d/images/rootfs-{language}.ext4").into(),
        bytes: 200 << 20,
        problem: problem.map(str::to_owned),
    };
    let given =
        [facts("python", true, None), facts("ruby", true, Some("truncated")), facts("abc", false, None)];
    let findings = images(&given, "python", &ROOT);
    let status: Vec<_> = findings.iter().map(|finding| finding.status).collect();
    assert_eq!(status, [Status::Ok, Status::Problem, Status::Warning]);
    assert_eq!(findings[1].fix.as_deref(), Some("infra.operator rootfs create --lang ruby"));
    let none = images(&[], "python", &ROOT);
    assert_eq!((none.len(), none[0].status), (1, Status::Warning));
    assert_eq!(none[0].fix.as_deref(), Some("infra.operator rootfs create --lang python"));
}

#[test]
fn files_that_vmms_cannot_read_are_a_problem() {
    assert_eq!(readable(&[], &ROOT).status, Status::Ok);
    let finding = readable(&["/d/a b".into(), "/d/c".into()], &ROOT);
    assert_eq!((finding.status, finding.fix.as_deref()), (Status::Problem, Some("chmod a+r '/d/a b' /d/c")));
}
