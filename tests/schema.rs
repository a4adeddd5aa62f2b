//! `schema/messages.v1.json` says what is sent: every message matches it, and one with a wrong name does not.
//!
//! What the built binary sends in other tests is checked where they receive it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod support;

use serde_json::{Value, json};
use vivadrop::{
    message::{BadRow, Failure, Message},
    verdict::Reason,
};

use support::{
    message::{facts, file},
    schema::{check, published, validator, what_is_wrong},
};

const REASONS: [Reason; 10] = [
    Reason::Errors,
    Reason::Metadata,
    Reason::NoKey,
    Reason::WrongKey,
    Reason::Plaintext,
    Reason::Damaged,
    Reason::BadRow,
    Reason::RowTooLong,
    Reason::RowCount,
    Reason::Refused,
];

/// One message of each kind, with all that may be in it.
fn messages() -> Vec<Value> {
    let file = file();
    let bad = [BadRow { row: 1, reason: "is not a JSON object".into() }];
    let failure =
        Failure { file: Some(&file.name), reason: Reason::RowTooLong, message: "row 7 is too long", rows_delivered: 7 };
    let messages = [
        Message::rows(&facts(), &file, 0..2, true, br#"{"PersonId":"x"}"#[..].into(), &bad),
        Message::completed(&facts(), std::slice::from_ref(&file), 2, 1),
        Message::failed(&facts(), &[], &failure, None),
        Message::check(),
    ];
    messages.iter().inspect(|message| check(&message.body)).map(|m| serde_json::from_slice(&m.body).unwrap()).collect()
}

/// The places of all members of `value`, but for those of rows.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let at = format!("{at}/{name}");
                if at != "/data/rows" {
                    self::places(value, &at, places);
                }
                places.push(at);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, value)| self::places(value, &format!("{at}/{number}"), places));
        }
        _ => {}
    }
}

#[test]
fn the_schema_is_one() {
    jsonschema::meta::validate(&published()).unwrap();
}

#[test]
fn a_member_that_is_missing_or_has_another_name_is_noticed() {
    let validator = validator(&published());
    for message in messages() {
        validator.validate(&message).unwrap();
        let mut all = Vec::new();
        places(&message, "", &mut all);
        let is_of_a_drop = message["data"].get("drop").is_some();
        assert!(all.len() > if is_of_a_drop { 12 } else { 4 }, "{all:?}");
        // The list of bad rows may be absent: its own name is the one that only a closed schema notices.
        for place in all.iter().filter(|place| *place != "/data/badRows" || message["data"].get("file").is_none()) {
            let (parent, name) = place.rsplit_once('/').unwrap();
            let mut changed = message.clone();
            let members = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let value = members.remove(name).unwrap();
            members.insert(format!("{name}s"), value);
            assert!(!validator.is_valid(&changed), "{place}");
        }
    }
}

#[test]
fn a_value_of_another_kind_is_noticed() {
    let validator = validator(&published());
    for message in messages() {
        let mut all = Vec::new();
        places(&message, "", &mut all);
        for place in all {
            let mut changed = message.clone();
            *changed.pointer_mut(&place).unwrap() = json!(-1.5);
            assert!(!validator.is_valid(&changed), "{place}");
        }
    }
}

#[test]
fn additions_are_passed_over_by_receivers_and_not_made_by_us() {
    let validator = validator(&published());
    for message in messages() {
        for parent in ["", "/data", "/data/drop"].into_iter().filter(|parent| message.pointer(parent).is_some()) {
            let mut changed = message.clone();
            changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert("new".into(), json!(1));
            validator.validate(&changed).unwrap();
            assert!(!what_is_wrong(changed.to_string().as_bytes()).is_empty(), "{parent}");
        }
    }
}

#[test]
fn every_reason_is_in_the_schema() {
    let schema = published();
    let named = &schema["$defs"]["failed"]["properties"]["reason"];
    assert_eq!(named["examples"], json!(REASONS));
    for reason in REASONS {
        assert!(named["description"].as_str().unwrap().contains(reason.as_str()), "{reason}");
    }
}
