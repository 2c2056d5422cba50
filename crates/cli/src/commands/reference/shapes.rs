//! What bodies look like: a table of fields for each schema of the `OpenAPI` document, and an example.

use serde_json::Value;

use super::{
    example::{example, is_nullable, resolve},
    markdown::{anchor, cell, prose, push, table},
};

/// All of them.
pub(super) fn section(document: &Value) -> String {
    let mut section = "## Shapes\n\n".to_owned();
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    for (name, schema) in schemas {
        let about = prose(schema["description"].as_str().unwrap_or_default());
        push(&mut section, &format!("### {name}\n\n"));
        if !about.is_empty() {
            push(&mut section, &format!("{about}\n\n"));
        }
        section += &described(document, schema);
        if schema["enum"].is_null() && !is_list(schema) {
            push(&mut section, &format!("```json\n{:#}\n```\n\n", example(document, schema)));
        }
    }
    section
}

/// The name of a shape, with the way to it; what kind of value it is where it has no name.
pub(super) fn link(schema: &Value) -> String {
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    match (name, schema["items"].as_object()) {
        (Some(name), _) => format!("[{name}](#{})", anchor(name)),
        (None, Some(_)) => format!("list of {}", link(&schema["items"])),
        (None, None) => schema["type"].as_str().unwrap_or("anything").to_owned(),
    }
}

fn is_list(schema: &Value) -> bool {
    schema["anyOf"].is_array() || schema["oneOf"].is_array() && schema["properties"].is_null()
}

fn described(document: &Value, schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return format!("One of {}.\n\n", values.join(", "));
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let described = parts.iter().map(|part| match part.get("$ref") {
            Some(_) => format!("All of {}, and:\n\n", link(part)),
            None => described(document, part),
        });
        return described.collect();
    }
    if is_list(schema) {
        let alternatives = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
        let alternatives = alternatives.into_iter().flatten().enumerate();
        return alternatives.map(|(index, one)| alternative(document, index, one)).collect();
    }
    let mut rows = Vec::new();
    add_fields(document, schema, "", &mut rows);
    table(&["field", "type", "meaning"], &rows)
}

fn alternative(document: &Value, index: usize, schema: &Value) -> String {
    let first = if index == 0 { "Either" } else { "Or" };
    let about = cell(schema["description"].as_str().unwrap_or_default());
    if schema["properties"].is_null() {
        let about = if about.is_empty() { String::new() } else { format!(": {about}") };
        return format!("{first}: {}{about}\n\n", kind(schema));
    }
    format!("{first}: {about}\n\n{}", described(document, schema))
}

/// The fields of an object, and of objects that have no name of their own within it.
fn add_fields(document: &Value, schema: &Value, above: &str, rows: &mut Vec<Vec<String>>) {
    let is_request = schema["additionalProperties"] == false;
    let always = if is_request { ", required" } else { ", always" };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required =
            schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name));
        let known = not_null(field);
        let about =
            [field, known, resolve(document, known)].iter().find_map(|schema| schema["description"].as_str());
        let bounds = bounds(known);
        let about = [about.unwrap_or_default(), &bounds];
        let about = about.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
        let kind = format!("{}{}", kind(field), if required { always } else { "" });
        rows.push(vec![format!("`{above}{name}`"), kind, cell(&about)]);
        if known["items"]["properties"].is_object() {
            add_fields(document, &known["items"], &format!("{above}{name}[]."), rows);
        } else if known["properties"].is_object() {
            add_fields(document, known, &format!("{above}{name}."), rows);
        }
    }
}

/// Of something or null, the something.
fn not_null(schema: &Value) -> &Value {
    let alternatives: Vec<_> =
        schema["oneOf"].as_array().into_iter().flatten().filter(|one| one["type"] != "null").collect();
    match (is_nullable(schema), alternatives.as_slice()) {
        (true, [only]) => only,
        _ => schema,
    }
}

/// What kind of value it is, for a cell of a table.
pub(super) fn kind(schema: &Value) -> String {
    let known = not_null(schema);
    let or_null = if is_nullable(schema) { " or null" } else { "" };
    if known.get("$ref").is_some() {
        return format!("{}{or_null}", link(known));
    }
    if let Some(values) = known["enum"].as_array() {
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        return format!("{}{or_null}", values.join(" or "));
    }
    if let Some(alternatives) = known["oneOf"].as_array().or_else(|| known["anyOf"].as_array()) {
        let kinds = alternatives.iter().filter(|one| one["type"] != "null").map(kind);
        return format!("{}{or_null}", kinds.collect::<Vec<_>>().join(" or "));
    }
    let types: Vec<_> = match &known["type"] {
        Value::Array(types) => {
            types.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect()
        }
        kind => kind.as_str().into_iter().collect(),
    };
    let types = types.iter().map(|name| match *name {
        "array" => format!("list of {}", kind(&known["items"])),
        name => name.to_owned(),
    });
    let types = types.collect::<Vec<_>>().join(" or ");
    format!("{}{or_null}", if types.is_empty() { "anything".to_owned() } else { types })
}

/// The bounds that a schema has, in words; nothing where it has none.
pub(super) fn bounds(schema: &Value) -> String {
    // A whole number is said as one.
    let bound = |name: &str| schema[name].as_f64().map(|number| number.to_string());
    let range = |low: &str, high: &str, unit: &str| match (bound(low).as_deref(), bound(high).as_deref()) {
        // What is counted is never negative, and no type of ours is an interesting bound.
        (None | Some("0"), None) => None,
        (Some(low), None) => Some(format!("At least {low}{unit}.")),
        (None, Some(high)) => Some(format!("At most {high}{unit}.")),
        (Some(low), Some(high)) => Some(format!("{low} to {high}{unit}.")),
    };
    let ranges = [
        range("minimum", "maximum", ""),
        range("minLength", "maxLength", " characters"),
        range("minItems", "maxItems", " of them"),
    ];
    ranges.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_and_bounds_are_told_in_words() {
        let nullable = json!({ "oneOf": [{ "$ref": "#/components/schemas/Inner" }, { "type": "null" }] });
        assert_eq!(kind(&nullable), "[Inner](#inner) or null");
        assert_eq!(
            kind(&json!({ "type": ["array", "null"], "items": { "type": "string" } })),
            "list of string or null"
        );
        assert_eq!(bounds(&json!({ "minimum": 1, "maximum": 300 })), "1 to 300.");
        assert_eq!(bounds(&json!({ "minimum": 0 })), "");
        assert_eq!(bounds(&json!({ "maxItems": 32 })), "At most 32 of them.");
    }

    #[test]
    fn fields_of_objects_without_a_name_stand_with_those_that_hold_them() {
        let schema = json!({
            "additionalProperties": false, "required": ["files"],
            "properties": { "files": { "type": "array", "items": { "type": "object", "properties": { "name": { "type": "string" } } } } },
        });
        let mut rows = Vec::new();
        add_fields(&json!({}), &schema, "", &mut rows);
        assert_eq!(rows[0], ["`files`", "list of object, required", ""]);
        assert_eq!(rows[1][0], "`files[].name`");
    }
}
