//! Prepares a bundle from Debian's archive. Needs the network and package lists (`apt-get update`).

use images::{KernelBundle, KernelSource, Quiet};

#[test]
fn debians_default_kernel_becomes_a_bundle() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("kernel");
    let bundle =
        KernelBundle::prepare(&KernelSource::Debian { package: None }, &path, &Quiet).expect("prepare");
    bundle.verify(&Quiet).expect("verify");
    assert!(bundle.is_current());
    assert!(bundle.manifest().kernel_release.ends_with("-cloud-amd64"));
    let names = std::fs::read_dir(path.join("modules")).expect("modules");
    let names: Vec<_> =
        names.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
    for module in ["virtio_mmio.ko", "virtio_blk.ko", "overlay.ko", "vmw_vsock_virtio_transport.ko"] {
        assert!(names.iter().any(|name| name.ends_with(module)), "{module} in {names:?}");
    }
    assert_eq!(KernelBundle::refresh(&path, &Quiet).expect("refresh"), bundle);
}

#[test]
fn a_package_that_does_not_exist_is_named_with_a_hint() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let source = KernelSource::Debian { package: Some("linux-image-no-such".to_owned()) };
    let error =
        KernelBundle::prepare(&source, &directory.path().join("kernel"), &Quiet).expect_err("unknown");
    assert!(error.hint().expect("hint").contains("apt-get update"), "{error:?}");
}
