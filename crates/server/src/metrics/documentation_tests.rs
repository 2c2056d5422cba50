//! What the documentation says of metrics is what the service tells: `docs/monitoring.md`, its dashboard and its alerts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use engine::pool::PoolStatus;
use serde_json::{Value, json};

use crate::fake::Lab;

/// The labels of each metric.
type Metrics = BTreeMap<String, BTreeSet<String>>;

/// What Prometheus itself adds.
const OF_PROMETHEUS: [&str; 3] = ["instance", "job", "le"];

fn documentation(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a service tells that has done a bit of everything.
async fn told() -> Metrics {
    let lab = Lab::new().await;
    let request = json!({ "language": "python", "code": "stdout 1" });
    let answer = lab.ask("POST", "/api/v1/run", &request.to_string()).await;
    assert_eq!(answer.json()["status"], "success", "{answer:?}");
    // One that is ended: its microVM may still be, when the answer is there.
    let told = async {
        loop {
            let text = lab.ask("GET", "/metrics", "").await.text;
            if text.contains("llm_firecracker_microvms_ended_total{") {
                return text;
            }
            tokio::task::yield_now().await;
        }
    };
    let text = tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("a microVM ends");
    // No end of a job is told here, and none is cancelled.
    let others = super::Metrics::new();
    others.job_ended("done");
    others.callback("delivered");
    let others = others.text(nothing(), None).unwrap();
    let mut metrics = Metrics::new();
    for line in text.lines().chain(others.lines()).filter(|line| !line.starts_with('#')) {
        let name: String = line.chars().take_while(|character| is_of_name(*character)).collect();
        let labels = line[name.len()..]
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .map(|(labels, _)| labels);
        metrics.entry(name).or_default().extend(labels.map(label_names).unwrap_or_default());
    }
    metrics
}

/// A pool that has nothing.
fn nothing() -> PoolStatus {
    PoolStatus {
        kinds: Vec::new(),
        queued: 0,
        queue: 0,
        microvms: 0,
        running: 0,
        most_running: 1,
        memory_mib: 0,
        memory_limit_mib: 0,
        stopping: false,
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The names in `a="x", b=~"y"`, which have no comma or brace in their values.
fn label_names(labels: &str) -> BTreeSet<String> {
    let names = labels.split(',').filter_map(|label| label.split(['=', '!']).next());
    names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// What of an expression the service does not tell.
fn unknown(expression: &str, metrics: &Metrics) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut rest = expression;
    let mut of_expression: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    let mut named = 0;
    while let Some(start) =
        ["llm_firecracker_", "process_"].iter().filter_map(|prefix| rest.find(prefix)).min()
    {
        rest = &rest[start..];
        let name: String = rest.chars().take_while(|character| is_of_name(*character)).collect();
        rest = &rest[name.len()..];
        named += 1;
        let Some(labels) = metrics.get(&name) else {
            unknown.push(name);
            continue;
        };
        of_expression.extend(labels.iter().cloned());
        let matched = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .map(|(labels, _)| label_names(labels));
        let strange = matched
            .unwrap_or_default()
            .into_iter()
            .filter(|label| !labels.contains(label) && !OF_PROMETHEUS.contains(&label.as_str()));
        unknown.extend(strange.map(|label| format!("{label} of {name}")));
    }
    for grouped in expression.split("by (").skip(1).filter_map(|part| part.split_once(')')) {
        let strange =
            label_names(grouped.0).into_iter().filter(|label| named > 0 && !of_expression.contains(label));
        unknown.extend(strange.map(|label| format!("{label}, grouped by in {expression}")));
    }
    unknown
}

/// The `expr` of every target, with what its legend names.
fn queries<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::Object(fields) => {
            if let Some(expression) = fields.get("expr").and_then(Value::as_str) {
                found.push((expression, fields["legendFormat"].as_str().unwrap_or_default()));
            }
            fields.values().for_each(|value| queries(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_shows_what_there_is() {
    let metrics = told().await;
    let dashboard: Value = serde_json::from_str(&documentation("monitoring/grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 20, "{} queries", found.len());
    for (expression, legend) in found {
        assert_eq!(unknown(expression, &metrics), Vec::<String>::new(), "{expression}");
        for label in
            legend.split("{{").skip(1).filter_map(|part| part.split_once("}}")).map(|(label, _)| label)
        {
            let is_grouped = expression.split("by (").skip(1).any(|part| {
                part.split_once(')').is_some_and(|(labels, _)| label_names(labels).contains(label))
            });
            assert!(
                is_grouped || label == "instance",
                "{label} of a legend is not in the result of {expression}"
            );
        }
    }
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels {
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{key} of {panel}"));
        assert!(place("x") + place("w") <= 24 && place("h") > 0, "{panel}");
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        assert!(panel["type"] == "row" || panel["description"].is_string(), "{panel}");
    }
    assert!(dashboard["schemaVersion"].is_number() && dashboard["uid"] == "llm-firecracker");
    let instances = dashboard["templating"]["list"][1]["definition"].as_str().unwrap();
    assert_eq!(unknown(instances, &metrics), Vec::<String>::new());
}

#[tokio::test]
async fn the_alerts_watch_what_there_is_and_each_is_explained() {
    let metrics = told().await;
    let alerts = documentation("monitoring/alerts.yaml");
    let page = documentation("monitoring.md");
    let mut seen = 0;
    for alert in alerts.split("- alert: ").skip(1) {
        let (name, rest) = alert.split_once('\n').unwrap();
        let (_, expression) = rest.split_once("expr:").unwrap();
        let (expression, _) = expression.split_once("labels:").unwrap();
        assert_eq!(unknown(expression, &metrics), Vec::<String>::new(), "{name}");
        assert!(page.contains(&format!("\n| `{name}` | ")), "{name} is not explained");
        seen += 1;
    }
    assert!(seen > 8, "{seen} alerts");
    let explained = page.lines().filter(|line| line.starts_with("| `LlmFirecracker")).count();
    assert_eq!(explained, seen, "an alert is explained that there is not");
}

#[tokio::test]
async fn every_metric_is_explained_with_its_labels() {
    let metrics = told().await;
    let page = documentation("monitoring.md");
    let mut explained = Metrics::new();
    for line in page.lines().filter(|line| line.starts_with("| `llm_") || line.starts_with("| `process_")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        explained.insert(
            cells[1].trim_matches('`').to_owned(),
            labels.filter(|label| !label.is_empty()).collect(),
        );
    }
    let mut told = Metrics::new();
    for (name, mut labels) in metrics {
        labels.remove("le");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        told.entry(family.unwrap_or(&name).to_owned()).or_default().extend(labels);
    }
    assert_eq!(explained, told);
}

#[test]
fn what_is_not_told_is_noticed() {
    let metrics = Metrics::from([("llm_firecracker_a_total".to_owned(), ["x".to_owned()].into())]);
    assert_eq!(
        unknown(r#"sum by (x) (rate(llm_firecracker_a_total{x="1", job="j"}[5m]))"#, &metrics),
        Vec::<String>::new()
    );
    assert_eq!(unknown("llm_firecracker_b", &metrics), ["llm_firecracker_b"]);
    assert_eq!(unknown(r#"llm_firecracker_a_total{y="1"}"#, &metrics), ["y of llm_firecracker_a_total"]);
    assert_eq!(unknown("sum by (z) (llm_firecracker_a_total)", &metrics).len(), 1);
}
