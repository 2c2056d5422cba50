//! Examples, made from what a schema says.

use serde_json::{Map, Value, json};

/// How deep schemas may lie within each other. Ours are not that deep, and do not contain themselves.
const DEPTH: usize = 8;

/// What a `$ref` stands for; the schema itself where it is none.
pub(super) fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(schema)
}

/// A value that fits: what the schema gives as its example, else the fields that are always there; of a request also those that have
/// an example.
pub(super) fn example(document: &Value, schema: &Value) -> Value {
    within(document, schema, DEPTH)
}

fn within(document: &Value, schema: &Value, depth: usize) -> Value {
    let schema = resolve(document, schema);
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    if let Some(example) = schema.get("example").or_else(|| schema.get("default")) {
        return example.clone();
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().map(|part| within(document, part, depth));
        let fields = parts.filter_map(|part| part.as_object().cloned()).flatten();
        return Value::Object(fields.collect());
    }
    if is_nullable(schema) {
        return Value::Null;
    }
    let alternatives = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(first) = alternatives.and_then(|alternatives| alternatives.first()) {
        return within(document, first, depth);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.first().cloned().unwrap_or_default();
    }
    match schema["type"].as_str() {
        Some("object") => Value::Object(fields(document, schema, depth)),
        Some("array") => json!([within(document, &schema["items"], depth)]),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(0)),
        Some("boolean") => json!(false),
        Some("string") if schema["format"] == "date-time" => json!("2026-11-25T09:00:00Z"),
        _ => json!("…"),
    }
}

fn fields(document: &Value, schema: &Value, depth: usize) -> Map<String, Value> {
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name))
    };
    // What a request may leave out is shown; what an answer may lack, as an error, would not fit the rest.
    let is_request = schema["additionalProperties"] == false;
    let properties = schema["properties"].as_object().into_iter().flatten();
    let shown =
        properties.filter(|(name, value)| required(name) || is_request && value.get("example").is_some());
    shown.map(|(name, value)| (name.clone(), within(document, value, depth))).collect()
}

/// Whether null fits, too.
pub(super) fn is_nullable(schema: &Value) -> bool {
    let is_null = |schema: &Value| schema["type"] == "null";
    let types = schema["type"].as_array().is_some_and(|types| types.iter().any(|known| known == "null"));
    types || schema["oneOf"].as_array().is_some_and(|alternatives| alternatives.iter().any(is_null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_has_what_is_always_there_and_what_the_schema_says() {
        let document =
            json!({ "components": { "schemas": { "Inner": { "type": "string", "example": "x" } } } });
        let schema = json!({
            "type": "object",
            "required": ["inner", "count", "maybe", "list"],
            "properties": {
                "inner": { "$ref": "#/components/schemas/Inner" },
                "count": { "type": "integer", "minimum": 1 },
                "maybe": { "type": ["string", "null"] },
                "list": { "type": "array", "items": { "type": "boolean" } },
                "left_out": { "type": "string" },
            },
        });
        let expected = json!({ "inner": "x", "count": 1, "maybe": null, "list": [false] });
        assert_eq!(example(&document, &schema), expected);
    }

    #[test]
    fn a_schema_that_contains_itself_has_an_example_too() {
        let document = json!({ "a": { "type": "array", "items": { "$ref": "#/a" } } });
        assert!(example(&document, &document["a"]).is_array());
    }
}
