//! The keys of `guest.toml` as a JSON Schema, by which editors complete and check them.

use serde_json::{Map, Value, json};

use super::{
    keys::AxVMCrateConfig,
    schema::{FromNode, Key, Shape},
    values::LONGEST_LIST,
};

/// The schema (JSON Schema, draft 7, which editors for TOML understand): what a file may have. What
/// several keys say together is not in it.
pub fn json_schema() -> Value {
    let mut schema = shape(&AxVMCrateConfig::SHAPE);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "guest.toml: a guest for axvmm".into();
    schema
}

fn shape(it: &Shape) -> Value {
    match it {
        Shape::String => json!({"type": "string"}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer { min, max } => {
            let mut schema = json!({"type": "integer", "minimum": min});
            // TOML's integers end there anyhow.
            if *max <= i64::MAX as u64 {
                schema["maximum"] = (*max).into();
            }
            schema
        }
        Shape::Size => json!({"anyOf": [
            {"type": "string", "pattern": r"^\s*[0-9]+\s*([kKmMgGtT]([iI][bB])?)?\s*$"},
            {"type": "integer", "minimum": 1},
        ]}),
        Shape::Time => json!({"anyOf": [
            {"type": "string", "pattern": r"^([0-9.]+(ms|s|m|h)?)+$"},
            {"type": "integer", "minimum": 1},
        ]}),
        Shape::Pattern => json!({"type": "string", "format": "regex", "minLength": 1}),
        Shape::Word(words) => json!({"enum": words}),
        Shape::List(element) => {
            json!({"type": "array", "items": shape(element), "maxItems": LONGEST_LIST})
        }
        Shape::Table(keys) => table(keys, &[], None),
        Shape::Open(keys) => {
            let mut schema = table(keys, &[], None);
            schema["additionalProperties"] = true.into();
            schema
        }
        Shape::Kinds(kinds) => {
            let kinds = kinds.iter().map(|(kind, keys)| table(keys, &["kind"], Some(kind)));
            json!({"anyOf": kinds.collect::<Vec<_>>()})
        }
        Shape::Row { keys, required } => {
            let names: Vec<_> = keys[..*required].iter().map(|key| key.name).collect();
            let columns: Vec<_> = keys.iter().map(value).collect();
            json!({"anyOf": [
                table(keys, &names, None),
                {
                    "type": "array",
                    "items": columns,
                    "minItems": required,
                    "additionalItems": false,
                },
            ]})
        }
        Shape::Either(shapes) => json!({"anyOf": shapes.iter().map(shape).collect::<Vec<_>>()}),
    }
}

/// A table, whose `kind` is this one.
fn table(keys: &[Key], required: &[&str], kind: Option<&str>) -> Value {
    let mut properties: Map<_, _> =
        keys.iter().map(|key| (key.name.to_owned(), value(key))).collect();
    if let Some(kind) = kind {
        properties.insert("kind".to_owned(), json!({"const": kind}));
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// A key's value, with what it means.
fn value(key: &Key) -> Value {
    let mut schema = shape(&key.shape);
    let lines: Vec<_> = key.doc.lines().map(str::trim).collect();
    schema["description"] = lines.join(" ").trim().into();
    schema
}
