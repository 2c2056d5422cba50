//! Documents of registries as they are, as they are not, and any bytes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn digest_of(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn descriptor(number: usize, media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": digest_of(number), "size": number })
}

fn for_platform(number: usize, os: &str, architecture: &str, variant: &str) -> Value {
    let mut descriptor = descriptor(number, MANIFEST_TYPES[1]);
    descriptor["platform"] = json!({ "os": os, "architecture": architecture, "variant": variant });
    descriptor
}

fn image(layers: &[Value]) -> Result<Manifest, DocumentError> {
    let document = json!({ "schemaVersion": 2, "config": descriptor(1, "any"), "layers": layers });
    manifest(document.to_string().as_bytes())
}

fn chosen(manifests: &[Value]) -> Result<u64, DocumentError> {
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    match manifest(index.to_string().as_bytes())? {
        Manifest::Index(manifests) => for_this_platform(&manifests).map(|blob| blob.size),
        Manifest::Image { .. } => unreachable!("it has manifests"),
    }
}

fn configured(document: &Value) -> Result<Configuration, DocumentError> {
    configuration(document.to_string().as_bytes())
}

#[test]
fn manifests_of_oci_and_docker_are_read() {
    for kind in [
        OCI_LAYER,
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        let Ok(Manifest::Image { config, layers }) = image(&[descriptor(2, kind), descriptor(3, kind)])
        else {
            unreachable!("{kind}")
        };
        assert_eq!((config.size, layers[0].size, layers[1].size), (1, 2, 3), "{kind}");
        assert_eq!(format!("sha256:{}", layers[1].digest), digest_of(3));
    }
}

#[test]
fn what_is_no_image_is_refused_with_its_reason() {
    let refusal = |text: &str| manifest(text.as_bytes()).expect_err("refused").to_string();
    for malformed in ["", "{", "[]", "null", "{}", r#"{"schemaVersion": "2"}"#, r#"{"schemaVersion": -2}"#] {
        assert_eq!(refusal(malformed), "it is malformed", "{malformed}");
    }
    assert!(refusal(r#"{"schemaVersion": 1}"#).contains("schema version 1, which is not supported"));
    assert_eq!(refusal(r#"{"schemaVersion": 2}"#), "it is no image");
    assert_eq!(refusal(r#"{"schemaVersion": 2, "manifests": [], "layers": []}"#), "it is no image");
    let helm = "application/vnd.cncf.helm.chart.content.v1.tar";
    assert!(image(&[descriptor(2, helm)]).is_ok(), "an archive is an archive");
    for kind in ["", "application/json", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"] {
        assert!(matches!(image(&[descriptor(2, kind)]), Err(DocumentError::LayerType(_))), "{kind}");
    }
    let many: Vec<Value> = (0..=MAX_LAYERS).map(|number| descriptor(number, OCI_LAYER)).collect();
    assert!(matches!(image(&many), Err(DocumentError::TooManyLayers(_))));
    assert!(image(&many[1..]).is_ok());
}

#[test]
fn digests_are_sha256_and_nothing_that_could_be_a_path() {
    for wrong in [
        "",
        "sha256:",
        "sha256:12",
        &format!("sha512:{}", "a".repeat(128)),
        &format!("sha256:{}", "A".repeat(64)),
        &format!("sha256:{}g", "a".repeat(63)),
        &format!("sha256:../{}", "a".repeat(61)),
        &format!("sha256:{}\n", "a".repeat(64)),
    ] {
        assert!(matches!(digest(wrong), Err(DocumentError::Digest(_))), "{wrong:?}");
    }
    let forged = digest("\x1b[31mx\nhint: run this").expect_err("refused").to_string();
    assert!(!forged.contains(['\x1b', '\n']), "{forged:?}");
}

#[test]
fn of_an_index_what_this_machine_runs_is_taken() {
    let arm = for_platform(1, "linux", "arm64", "v8");
    let attestation = for_platform(2, "unknown", "unknown", "");
    let windows = for_platform(3, "windows", "amd64", "");
    let ours = for_platform(4, "linux", "amd64", "");
    let newer = for_platform(5, "linux", "amd64", "v3");
    let all = [arm.clone(), attestation.clone(), windows.clone(), newer.clone(), ours];
    assert_eq!(chosen(&all).expect("there is one"), 4);
    assert_eq!(chosen(&all[..4]).expect("there is one"), 5);
    assert_eq!(chosen(&[descriptor(6, "any")]).expect("the only one"), 6);
    let refusal = |manifests: &[Value]| chosen(manifests).expect_err("refused").to_string();
    let found = "it is for linux/arm64, windows/amd64, not for linux/amd64";
    assert_eq!(refusal(&[arm, attestation.clone(), windows]), found);
    let none = "it is for no platform at all, not for linux/amd64";
    assert_eq!(refusal(&[]), none);
    assert_eq!(refusal(&[attestation]), none);
    assert_eq!(refusal(&[descriptor(6, "any"), descriptor(7, "any")]), none);
    let forged = refusal(&[for_platform(1, "x\nerror: y", "\x1b[2J", ""), for_platform(2, "", "", "")]);
    assert!(!forged.contains(['\x1b', '\n']), "{forged:?}");
    let many: Vec<Value> =
        (0..200).map(|n| for_platform(n, &format!("os{n}"), &"a".repeat(500), "")).collect();
    assert!(refusal(&many).len() < 2000);
}

#[test]
fn images_of_an_index_go_by_their_names() {
    let named_as = |number, key: &str, name: &str| {
        let mut descriptor = descriptor(number, MANIFEST_TYPES[1]);
        descriptor["annotations"] = json!({ key: name });
        descriptor
    };
    let index = json!({ "schemaVersion": 2, "manifests": [
        named_as(1, "org.opencontainers.image.ref.name", "3.12"),
        named_as(2, "io.containerd.image.name", "docker.io/library/python:3.12"),
        descriptor(3, MANIFEST_TYPES[1]),
    ] });
    let Ok(Manifest::Index(manifests)) = manifest(index.to_string().as_bytes()) else { unreachable!() };
    let sizes = |name| named(&manifests, name).iter().map(|one| one.size).collect::<Vec<_>>();
    assert_eq!(sizes(None), [1, 2, 3]);
    assert_eq!(sizes(Some("3.12")), [1]);
    assert_eq!(sizes(Some("docker.io/library/python:3.12")), [2]);
    assert_eq!(sizes(Some("3")), [0_u64; 0]);
}

#[test]
fn a_configuration_says_how_programs_run() {
    let document = json!({
        "os": "linux", "architecture": "amd64", "created": "whenever", "history": [{}],
        "config": {
            "Env": ["PATH=/opt/bin:/bin", "EMPTY=", "A=b=c", "no-value"],
            "WorkingDir": "/srv", "User": "app:1000", "Cmd": ["python3"], "Labels": null,
        },
        "rootfs": { "type": "layers", "diff_ids": [digest_of(1)] },
    });
    let Configuration { diff_ids, config } = configured(&document).expect("a configuration");
    assert_eq!(diff_ids.len(), 1);
    let environment: Vec<_> = config.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(environment, [("A", "b=c"), ("EMPTY", ""), ("PATH", "/opt/bin:/bin")]);
    assert_eq!((config.working_directory.as_str(), config.user.as_str()), ("/srv", "app:1000"));
    for nothing in [Value::Null, json!({}), json!({ "Env": null, "WorkingDir": null, "User": null })] {
        let document = json!({ "config": nothing, "rootfs": { "diff_ids": [] } });
        assert_eq!(configured(&document).expect("a configuration").config, ImageConfig::default());
    }
}

#[test]
fn configurations_of_other_machines_or_without_sense_are_refused() {
    let with = |key: &str, value: Value| {
        let mut document = json!({ "rootfs": { "diff_ids": [] } });
        document[key] = value;
        configured(&document).expect_err("refused")
    };
    assert!(matches!(with("architecture", json!("arm64")), DocumentError::Platform { .. }));
    assert!(matches!(with("os", json!("windows")), DocumentError::Platform { .. }));
    assert!(matches!(with("rootfs", json!({})), DocumentError::Malformed(_)));
    let ids: Vec<String> = (0..=MAX_LAYERS).map(digest_of).collect();
    assert!(matches!(with("rootfs", json!({ "diff_ids": ids })), DocumentError::TooManyLayers(_)));
    assert!(matches!(with("rootfs", json!({ "diff_ids": ["x"] })), DocumentError::Digest(_)));
    let many: Vec<String> = (0..100_000).map(|number| format!("V{number}=x")).collect();
    assert!(matches!(with("config", json!({ "Env": many })), DocumentError::Environment));
    assert!(matches!(with("config", json!({ "Env": ["A=\0"] })), DocumentError::Environment));
}

/// JSON of documents, with fields of any kind.
fn documents() -> impl Strategy<Value = String> {
    let names =
        ["schemaVersion", "manifests", "config", "layers", "digest", "size", "platform", "os", "rootfs"];
    let leaf = prop_oneof![
        Just(json!(2)),
        Just(Value::Null),
        any::<i64>().prop_map(|n| json!(n)),
        ".{0,9}".prop_map(|s| json!(s))
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let fields = prop::collection::btree_map(prop::sample::select(names.to_vec()), inner.clone(), 0..6);
        prop_oneof![
            fields.prop_map(|fields| json!(fields)),
            prop::collection::vec(inner, 0..4).prop_map(|items| json!(items)),
        ]
    })
    .prop_map(|document| document.to_string())
}

proptest! {
    #[test]
    fn any_document_is_read_or_refused(text in documents()) {
        if let Ok(Manifest::Index(manifests)) = manifest(text.as_bytes()) {
            let _ = for_this_platform(&manifests);
        }
        let _ = configuration(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(manifest(&bytes).is_err());
        prop_assert!(configuration(&bytes).is_err());
    }
}
