//! The schema of the messages, as it is published, and closed: what this vivadrop sends has no member that is not in it.

use std::{fs, path::Path, sync::LazyLock};

use jsonschema::Validator;
use serde_json::Value;

/// The schema as receivers have it.
pub(crate) fn published() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/messages.v1.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Checks a message.
pub(crate) fn check(message: &[u8]) {
    let wrong = what_is_wrong(message);
    assert!(wrong.is_empty(), "a message is not what the schema says: {wrong:?}");
}

/// What of a message is not as the schema says, by place, without what stands there.
pub(crate) fn what_is_wrong(message: &[u8]) -> Vec<String> {
    static CLOSED: LazyLock<Validator> = LazyLock::new(|| validator(&closed(published())));
    let message = serde_json::from_slice(message).expect("a message is JSON");
    let errors = CLOSED.iter_errors(&message);
    errors.map(|error| format!("{} does not match {}", error.instance_path(), error.schema_path())).collect()
}

/// What validates by `schema`, formats included.
pub(crate) fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

/// The schema without room for additions, but in the rows, whose columns are the customer's.
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
