//! The alerts of the documentation are such as Prometheus takes, and each fires when it is to and not otherwise.

use std::{fs, path::Path, process::Command};

fn promtool(directory: &Path, arguments: &[&str]) {
    let output =
        Command::new("promtool").args(arguments).current_dir(directory).output().expect("there is promtool");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn each_alert_fires_for_the_instance_that_is_ill_and_for_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    for file in [root.join("../docs/monitoring/alerts.yaml"), root.join("monitoring/alerts-test.yaml")] {
        fs::copy(&file, directory.path().join(file.file_name().unwrap())).unwrap();
    }
    promtool(directory.path(), &["check", "rules", "alerts.yaml"]);
    promtool(directory.path(), &["test", "rules", "alerts-test.yaml"]);
    let names = |text: &str, before: &str| text.matches(before).count();
    let alerts = fs::read_to_string(directory.path().join("alerts.yaml")).unwrap();
    let tried = fs::read_to_string(directory.path().join("alerts-test.yaml")).unwrap();
    assert_eq!(names(&alerts, "- alert: "), names(&tried, "alertname=\""), "an alert is not tried");
}
