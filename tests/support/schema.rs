//! Validates messages with `schema/messages.v1.json`. Messages of this version must not have members that the schema
//! lacks.

use std::{fs, path::Path, sync::LazyLock};

use jsonschema::Validator;
use serde_json::Value;

/// The published schema, which allows additional members.
pub(crate) fn published() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/messages.v1.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Asserts that a message matches the schema and has no additional members.
pub(crate) fn assert_valid(message: &[u8]) {
    let violations = violations(message);
    assert!(violations.is_empty(), "a message does not match the schema: {violations:?}");
}

/// The positions in a message that do not match the schema, without the values there.
pub(crate) fn violations(message: &[u8]) -> Vec<String> {
    static CLOSED: LazyLock<Validator> = LazyLock::new(|| validator(&closed(published())));
    let message = serde_json::from_slice(message).expect("a message must be JSON");
    let errors = CLOSED.iter_errors(&message);
    errors.map(|error| format!("{} does not match {}", error.instance_path(), error.schema_path())).collect()
}

/// Creates a validator for `schema` that checks formats, too.
pub(crate) fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

/// Forbids additional members everywhere except in rows, whose columns the customer chooses.
fn closed(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(members) => {
            members.values_mut().for_each(|value| *value = closed(value.take()));
            if members.contains_key("required") && members.contains_key("properties") {
                members.insert("unevaluatedProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|value| *value = closed(value.take())),
        _ => {}
    }
    schema
}
