//! The requests of Firecracker's API: which fields a body has, and what they may hold.
//!
//! [`Description::ours`] is of the requests that our backend sends, and of the fields that it uses: nothing else is
//! needed, so nothing else is taken. [`Description::published`] reads Firecracker's own description, a Swagger 2.0
//! document (`firecracker_spec-v<version>.yaml` of a release, `src/firecracker/swagger/firecracker.yaml` of its sources).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Map, Value};

/// Requests, by method and path: `PUT /drives/{drive_id}`.
#[derive(Clone, Debug)]
pub struct Description(BTreeMap<String, Schema>);

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    /// True or false.
    Boolean,
    /// A whole number within bounds, where there are some.
    Integer {
        /// The least.
        minimum: Option<i64>,
        /// The most.
        maximum: Option<i64>,
    },
    /// A text; one of these, where there are some.
    Text {
        /// The choices.
        choices: BTreeSet<String>,
    },
    /// A list, of values like this.
    List(Box<Schema>),
    /// An object.
    Object {
        /// The fields that must be there.
        required: BTreeSet<String>,
        /// All fields.
        fields: BTreeMap<String, Schema>,
    },
}

/// How much can be logged.
const LEVELS: [&str; 6] = ["Debug", "Error", "Info", "Off", "Trace", "Warning"];

impl Description {
    /// The requests and fields that our backend uses. From the description of Firecracker 1.16.1.
    pub fn ours() -> Self {
        let machine = [
            ("vcpu_count", between(1, 32)),
            ("mem_size_mib", any_integer()),
            ("smt", Schema::Boolean),
            ("cpu_template", one_of(&["C3", "None", "T2", "T2A", "T2CL", "T2S", "V1N1"])),
        ];
        let registers = [("register", one_of(&["eax", "ebx", "ecx", "edx"])), ("bitmap", text())];
        let leaf = [
            ("leaf", text()),
            ("subleaf", text()),
            ("flags", any_integer()),
            ("modifiers", list(object(&["bitmap", "register"], registers))),
        ];
        let templates = [
            ("kvm_capabilities", list(text())),
            ("cpuid_modifiers", list(object(&["flags", "leaf", "modifiers", "subleaf"], leaf))),
            ("msr_modifiers", list(object(&["addr", "bitmap"], [("addr", text()), ("bitmap", text())]))),
        ];
        let boot = [("kernel_image_path", text()), ("initrd_path", text()), ("boot_args", text())];
        let drive = [
            ("drive_id", text()),
            ("path_on_host", text()),
            ("is_root_device", Schema::Boolean),
            ("is_read_only", Schema::Boolean),
        ];
        let at_least_three = Schema::Integer { minimum: Some(3), maximum: None };
        let action = [("action_type", one_of(&["FlushMetrics", "InstanceStart", "SendCtrlAltDel"]))];
        let create = [
            ("snapshot_type", one_of(&["Diff", "Full"])),
            ("snapshot_path", text()),
            ("mem_file_path", text()),
        ];
        let backend = [("backend_type", one_of(&["File", "Uffd"])), ("backend_path", text())];
        let load = [
            ("snapshot_path", text()),
            ("mem_backend", object(&["backend_path", "backend_type"], backend)),
            ("resume_vm", Schema::Boolean),
            ("vsock_override", object(&["uds_path"], [("uds_path", text())])),
        ];
        let requests = [
            ("PUT /machine-config", object(&["mem_size_mib", "vcpu_count"], machine)),
            ("PUT /cpu-config", object(&[], templates)),
            ("PUT /boot-source", object(&["kernel_image_path"], boot)),
            ("PUT /drives/{drive_id}", object(&["drive_id", "is_root_device"], drive)),
            (
                "PUT /vsock",
                object(&["guest_cid", "uds_path"], [("guest_cid", at_least_three), ("uds_path", text())]),
            ),
            ("PUT /serial", object(&[], [("serial_out_path", text())])),
            ("PUT /logger", object(&[], [("level", one_of(&LEVELS))])),
            ("PUT /actions", object(&["action_type"], action)),
            ("PATCH /vm", object(&["state"], [("state", one_of(&["Paused", "Resumed"]))])),
            ("PUT /snapshot/create", object(&["mem_file_path", "snapshot_path"], create)),
            ("PUT /snapshot/load", object(&["snapshot_path"], load)),
        ];
        Self(requests.map(|(name, schema)| (name.to_owned(), schema)).into())
    }

    /// The requests with a body of the description `text`, which Firecracker publishes.
    pub fn published(text: &str) -> Result<Self> {
        let documents = Yaml::load_from_str(text).context("the description is no YAML")?;
        let document = documents.first().context("the description is empty")?;
        let mut requests = BTreeMap::new();
        for (path, methods) in mapping(document, "paths")? {
            let path = path.as_str().context("a path is a text")?;
            for (method, operation) in methods.as_mapping().context("a path has methods")? {
                let method = method.as_str().context("a method is a text")?.to_uppercase();
                let Some(body) = body(operation) else { continue };
                let name = format!("{method} {path}");
                let schema = schema(document, body, 0).with_context(|| name.clone())?;
                requests.insert(name, schema);
            }
        }
        Ok(Self(requests))
    }

    /// In what this one, of all that is used, says something else than `published`, of all that there is.
    pub fn differences(&self, published: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, schema) in &self.0 {
            match published.0.get(name) {
                Some(theirs) => compare(name, schema, theirs, &mut differences),
                None => differences.push(format!("{name} is not in it")),
            }
        }
        differences
    }

    /// Why `body` is not what the request `name`, by its method and path, may hold; nothing where it is.
    pub fn fault(&self, name: &str, body: &Value) -> Option<String> {
        match self.0.iter().find(|(template, _)| is_of(name, template)) {
            Some((_, schema)) => schema.fault("", body),
            None => Some(format!("Invalid request method and/or path: {name}.")),
        }
    }
}

impl Schema {
    fn fault(&self, at: &str, value: &Value) -> Option<String> {
        let wrong = |wanted: &str| Some(format!("invalid value at `{at}`: {value} is not {wanted}"));
        match (self, value) {
            (Self::Boolean, Value::Bool(_)) => None,
            (Self::Integer { minimum, maximum }, Value::Number(number)) => {
                let fits = number.as_i64().is_some_and(|number| {
                    minimum.is_none_or(|least| number >= least) && maximum.is_none_or(|most| number <= most)
                });
                if fits { None } else { wrong(&format!("within {minimum:?} and {maximum:?}")) }
            }
            (Self::Text { choices }, Value::String(text)) => {
                if choices.is_empty() || choices.contains(text) {
                    None
                } else {
                    wrong("a choice")
                }
            }
            (Self::List(of), Value::Array(items)) => {
                items.iter().enumerate().find_map(|(index, item)| of.fault(&format!("{at}[{index}]"), item))
            }
            (Self::Object { required, fields }, Value::Object(given)) => {
                object_fault(at, required, fields, given)
            }
            _ => wrong("of its type"),
        }
    }
}

fn object_fault(
    at: &str,
    required: &BTreeSet<String>,
    fields: &BTreeMap<String, Schema>,
    given: &Map<String, Value>,
) -> Option<String> {
    if let Some(missing) = required.iter().find(|name| !given.contains_key(*name)) {
        return Some(format!("missing field `{missing}` at `{at}`"));
    }
    given.iter().find_map(|(name, value)| match fields.get(name) {
        Some(schema) => schema.fault(&format!("{at}.{name}"), value),
        None => Some(format!("unknown field `{name}` at `{at}`")),
    })
}

/// Whether a request is of this kind: `PUT /drives/rootfs` of `PUT /drives/{drive_id}`.
fn is_of(name: &str, template: &str) -> bool {
    let (mut given, mut wanted) = (name.split('/'), template.split('/'));
    loop {
        match (given.next(), wanted.next()) {
            (None, None) => return true,
            (Some(given), Some(wanted))
                if given == wanted || wanted.starts_with('{') && !given.is_empty() => {}
            _ => return false,
        }
    }
}

fn compare(at: &str, ours: &Schema, theirs: &Schema, differences: &mut Vec<String>) {
    match (ours, theirs) {
        (
            Schema::Object { required, fields },
            Schema::Object { required: their_required, fields: their_fields },
        ) => {
            if required != their_required {
                differences.push(format!("{at} requires {their_required:?} and not {required:?}"));
            }
            for (name, field) in fields {
                match their_fields.get(name) {
                    Some(theirs) => compare(&format!("{at}.{name}"), field, theirs, differences),
                    None => differences.push(format!("{at} has no {name}")),
                }
            }
        }
        (Schema::List(ours), Schema::List(theirs)) => compare(&format!("{at}[]"), ours, theirs, differences),
        _ if ours == theirs => {}
        _ => differences.push(format!("{at} is {theirs:?} and not {ours:?}")),
    }
}

fn mapping<'a>(
    of: &'a Yaml<'a>,
    key: &str,
) -> Result<impl Iterator<Item = (&'a Yaml<'a>, &'a Yaml<'a>)> + use<'a>> {
    let found = of.as_mapping_get(key).and_then(Yaml::as_mapping);
    Ok(found.with_context(|| format!("there are no {key}"))?.iter())
}

/// The schema of an operation's body.
fn body<'a>(operation: &'a Yaml<'a>) -> Option<&'a Yaml<'a>> {
    let parameters = operation.as_mapping_get("parameters")?.as_sequence()?;
    let body = parameters
        .iter()
        .find(|parameter| parameter.as_mapping_get("in").and_then(Yaml::as_str) == Some("body"))?;
    body.as_mapping_get("schema")
}

fn schema(document: &Yaml<'_>, of: &Yaml<'_>, depth: u32) -> Result<Schema> {
    const DEEPEST: u32 = 16;
    if depth > DEEPEST {
        bail!("definitions refer to each other");
    }
    if let Some(reference) = of.as_mapping_get("$ref").and_then(Yaml::as_str) {
        let name = reference.strip_prefix("#/definitions/").context("a reference is to a definition")?;
        let definition = document
            .as_mapping_get("definitions")
            .and_then(|definitions| definitions.as_mapping_get(name))
            .with_context(|| format!("there is no definition {name}"))?;
        return schema(document, definition, depth + 1);
    }
    let texts = |key: &str| -> BTreeSet<String> {
        let list = of.as_mapping_get(key).and_then(Yaml::as_sequence);
        list.into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    let integer = |key: &str| of.as_mapping_get(key).and_then(Yaml::as_integer);
    match of.as_mapping_get("type").and_then(Yaml::as_str).unwrap_or("object") {
        "boolean" => Ok(Schema::Boolean),
        "integer" | "number" => {
            Ok(Schema::Integer { minimum: integer("minimum"), maximum: integer("maximum") })
        }
        "string" => Ok(Schema::Text { choices: texts("enum") }),
        "array" => {
            let items = of.as_mapping_get("items").context("a list is of something")?;
            Ok(Schema::List(Box::new(schema(document, items, depth + 1)?)))
        }
        "object" => {
            let mut fields = BTreeMap::new();
            for (name, field) in
                of.as_mapping_get("properties").and_then(Yaml::as_mapping).into_iter().flatten()
            {
                let name = name.as_str().context("a property's name is a text")?;
                fields.insert(name.to_owned(), schema(document, field, depth + 1)?);
            }
            Ok(Schema::Object { required: texts("required"), fields })
        }
        other => bail!("there is no type {other}"),
    }
}

fn object<const N: usize>(required: &[&str], fields: [(&str, Schema); N]) -> Schema {
    Schema::Object {
        required: required.iter().map(ToString::to_string).collect(),
        fields: fields.map(|(name, schema)| (name.to_owned(), schema)).into(),
    }
}

fn list(of: Schema) -> Schema {
    Schema::List(Box::new(of))
}

fn text() -> Schema {
    one_of(&[])
}

fn one_of(choices: &[&str]) -> Schema {
    Schema::Text { choices: choices.iter().map(ToString::to_string).collect() }
}

fn any_integer() -> Schema {
    Schema::Integer { minimum: None, maximum: None }
}

fn between(least: i64, most: i64) -> Schema {
    Schema::Integer { minimum: Some(least), maximum: Some(most) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// In the form of Firecracker's own, and much shorter.
    const PUBLISHED: &str = r##"
swagger: "2.0"
paths:
  /vm:
    get:
      responses: {}
    patch:
      parameters:
        - name: body
          in: body
          required: true
          schema:
            $ref: "#/definitions/State"
  /drives/{drive_id}:
    put:
      parameters:
        - name: drive_id
          in: path
          type: string
        - name: body
          in: body
          schema:
            type: object
            required: [drive_id]
            properties:
              drive_id: { type: string }
              sizes: { type: array, items: { type: integer, minimum: 3 } }
definitions:
  State:
    type: object
    required:
      - state
    properties:
      state:
        type: string
        enum: [Paused, Resumed, "None"]
"##;

    #[test]
    fn a_published_description_judges_bodies() {
        let published = Description::published(PUBLISHED).unwrap();
        assert_eq!(published.fault("PATCH /vm", &json!({ "state": "Paused" })), None);
        assert_eq!(published.fault("PUT /drives/a", &json!({ "drive_id": "a", "sizes": [3, 4] })), None);
        for (request, body, fault) in [
            ("PATCH /vm", json!({ "state": "Asleep" }), "invalid value at `.state`"),
            ("PATCH /vm", json!({}), "missing field `state`"),
            ("PATCH /vm", json!({ "state": "Paused", "force": true }), "unknown field `force`"),
            ("PATCH /vm", json!([]), "is not of its type"),
            ("PUT /drives/a", json!({ "drive_id": "a", "sizes": [3, 2] }), "invalid value at `.sizes[1]`"),
            ("PUT /drives/", json!({ "drive_id": "a" }), "Invalid request method and/or path"),
            ("GET /vm", json!({}), "Invalid request method and/or path"),
        ] {
            let found = published.fault(request, &body).unwrap_or_default();
            assert!(found.contains(fault), "{request} {body}: {found}");
        }
    }

    #[test]
    fn what_is_described_otherwise_is_told() {
        let published = Description::published(PUBLISHED).unwrap();
        let differences = Description::ours().differences(&published);
        let expected = [
            "PATCH /vm.state is Text { choices: {\"None\", \"Paused\", \"Resumed\"} } and not",
            "PUT /actions is not in it",
            "PUT /drives/{drive_id} requires {\"drive_id\"} and not",
            "PUT /drives/{drive_id} has no is_read_only",
        ];
        for expected in expected {
            assert!(
                differences.iter().any(|found| found.starts_with(expected)),
                "{expected}: {differences:?}"
            );
        }
        assert_eq!(published.differences(&published), Vec::<String>::new());
    }

    #[test]
    fn a_description_that_is_none_is_refused() {
        for text in [
            "",
            "paths: 3",
            "a: [",
            "paths: { /vm: { put: { parameters: [ { in: body, schema: { $ref: 'x' } } ] } } }",
        ] {
            assert!(Description::published(text).is_err(), "{text}");
        }
    }
}
