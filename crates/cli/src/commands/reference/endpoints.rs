//! `docs/endpoints.md`, from the `OpenAPI` document: every method and path. What bodies look like is in [`shapes`].

use serde_json::Value;

use super::{
    example::example,
    markdown::{anchor, cell, prose, push, table},
    shapes,
};

const INTRODUCTION: &str = "\
<!-- Written by `infra.operator reference endpoints` from the OpenAPI document: change crates/server/src/routes and types instead. -->

# Endpoints

Every endpoint of the service, as `infra.operator api` serves it. A running service shows the same at `/docs`, where requests can be
tried, and for programs at `/api/v1/openapi.json`. What holds for all of them (tokens, quotas, ids of requests, behaviour under load,
streams) is told in [service.md](service.md), what the errors mean in [its table](service.md#errors).

Bodies are JSON. Every error is a [Failed](#failed). Where the service asks for a token, each request but those that say so carries
one: `Authorization: Bearer TOKEN`.
";

/// The methods, in the order in which they are told.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// One method of one path.
struct Endpoint<'a> {
    method: &'static str,
    path: &'a str,
    operation: &'a Value,
}

/// The page.
pub(super) fn page(document: &Value) -> String {
    let mut page = INTRODUCTION.to_owned();
    let endpoints = endpoints(document);
    let tags: Vec<_> = document["tags"].as_array().into_iter().flatten().collect();
    let rows = tags.iter().flat_map(|tag| of_tag(&endpoints, tag));
    let rows = rows.map(|endpoint| {
        let heading = endpoint.heading();
        vec![format!("[`{heading}`](#{})", anchor(&heading)), cell(endpoint.text("summary"))]
    });
    push(&mut page, &format!("\n{}", table(&["endpoint", "what it does"], &rows.collect::<Vec<_>>())));
    for tag in &tags {
        let (name, about) =
            (tag["name"].as_str().unwrap_or_default(), tag["description"].as_str().unwrap_or_default());
        push(&mut page, &format!("## {name}\n\n{}.\n\n", prose(about)));
        of_tag(&endpoints, tag).for_each(|endpoint| page += &endpoint.section(document));
    }
    page += &shapes::section(document);
    format!("{}\n", page.trim_end())
}

fn endpoints(document: &Value) -> Vec<Endpoint<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let endpoints = paths.flat_map(|(path, item)| {
        METHODS
            .into_iter()
            .filter_map(move |method| Some(Endpoint { method, path, operation: item.get(method)? }))
    });
    endpoints.collect()
}

fn of_tag<'a>(endpoints: &'a [Endpoint<'a>], tag: &'a Value) -> impl Iterator<Item = &'a Endpoint<'a>> {
    endpoints.iter().filter(|endpoint| endpoint.operation["tags"][0] == tag["name"])
}

impl Endpoint<'_> {
    fn heading(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }

    fn text(&self, key: &str) -> &str {
        self.operation[key].as_str().unwrap_or_default()
    }

    fn section(&self, document: &Value) -> String {
        let mut section = format!("### `{}`\n\n{}\n\n", self.heading(), prose(self.text("summary")));
        let more = prose(self.text("description"));
        if !more.is_empty() {
            push(&mut section, &format!("{more}\n\n"));
        }
        // The empty requirement alone: it is never asked for.
        if self.operation["security"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one == &serde_json::json!({})))
        {
            section += "Needs no token.\n\n";
        }
        section += &table(&["parameter", "type", "meaning"], &self.parameters());
        let body = self.body();
        if let Some(schema) = body {
            let optional = self.operation["requestBody"]["required"] != true;
            let optional = if optional { ", which may be left out" } else { "" };
            push(&mut section, &format!("Body: {}{optional}\n\n", shapes::link(schema)));
        }
        push(&mut section, &format!("```sh\n{}\n```\n\n", self.curl(document)));
        let answers = self.operation["responses"].as_object().into_iter().flatten();
        let rows = answers.map(|(status, answer)| {
            let shapes = answer["content"].as_object().into_iter().flatten().map(|(media_type, content)| {
                if media_type == "application/json" {
                    shapes::link(&content["schema"])
                } else {
                    format!("`{media_type}`")
                }
            });
            let headers = answer["headers"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| format!("header `{name}`"));
            let shapes = shapes.chain(headers).collect::<Vec<_>>().join(", ");
            vec![status.clone(), shapes, cell(answer["description"].as_str().unwrap_or_default())]
        });
        section + &table(&["status", "answer", "meaning"], &rows.collect::<Vec<_>>())
    }

    fn parameters(&self) -> Vec<Vec<String>> {
        let parameters = self.operation["parameters"].as_array().into_iter().flatten();
        let row = |parameter: &Value| {
            let name = parameter["name"].as_str().unwrap_or_default();
            let place = parameter["in"].as_str().unwrap_or_default();
            let about = parameter["description"].as_str().unwrap_or_default();
            let bounds = shapes::bounds(&parameter["schema"]);
            let about = [about, &bounds]
                .iter()
                .filter(|part| !part.is_empty())
                .copied()
                .collect::<Vec<_>>()
                .join(" ");
            let kind = shapes::kind(&parameter["schema"]);
            vec![format!("`{name}` ({place})"), kind, cell(&about)]
        };
        parameters.map(row).collect()
    }

    fn body(&self) -> Option<&Value> {
        self.operation.pointer("/requestBody/content/application~1json/schema")
    }

    /// How it is asked from a shell, on the machine of the service.
    fn curl(&self, document: &Value) -> String {
        let mut path = self.path.to_owned();
        for parameter in self.operation["parameters"].as_array().into_iter().flatten() {
            let value = parameter.get("example").or_else(|| parameter["schema"].get("example"));
            if let (Some(name), Some(value)) = (parameter["name"].as_str(), value.and_then(Value::as_str)) {
                path = path.replace(&format!("{{{name}}}"), value);
            }
        }
        // What has no example is left to a variable of the shell.
        let path = path.replace('{', "$").replace('}', "").replace("$id", "$ID");
        let method = match self.method {
            "get" | "post" => String::new(),
            other => format!("-X {} ", other.to_uppercase()),
        };
        let quote = if path.contains('$') { "\"" } else { "" };
        let url = format!("{quote}http://127.0.0.1:8080{path}{quote}");
        let mut command = format!("curl {method}{url}");
        match self.body() {
            Some(schema) => {
                let body = example(document, schema).to_string();
                push(
                    &mut command,
                    &format!(
                        " \\\n  -H 'Content-Type: application/json' -d '{}'",
                        body.replace('\'', r"'\''")
                    ),
                );
            }
            None if self.method == "post" => command = command.replace("curl ", "curl -X POST "),
            None => {}
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_every_path_has_its_place_and_every_shape_that_is_linked_is_there() {
        let document = server::document();
        let page = page(&document);
        let endpoints = endpoints(&document);
        assert!(endpoints.len() > 20);
        for endpoint in endpoints {
            assert!(page.contains(&format!("\n### `{}`\n", endpoint.heading())), "{}", endpoint.heading());
        }
        for (name, _) in document["components"]["schemas"].as_object().unwrap() {
            assert!(page.contains(&format!("\n### {name}\n")), "{name}");
        }
    }
}
