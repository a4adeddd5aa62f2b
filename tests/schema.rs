//! Every message matches `schema/messages.v1.json`, and the schema notices every wrong name and type.
//!
//! Other tests also validate each message that they receive from the built binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod support;

use serde_json::{Value, json};
use vivadrop::{
    attributes::Definitions,
    directory::DirectorySnapshot,
    message::{
        BadRow, EndingVersion, Failure, ImportFacts, ImportFailure, ImportVersion, JoinFacts, Message, RangeCounts,
        WindowFacts,
    },
    verdict::Reason,
};

use support::{
    message::{facts, file},
    schema::{assert_valid, published, validator, violations},
};

const REASONS: [Reason; 14] = [
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
    Reason::TooManyFiles,
    Reason::DirectoryTooLarge,
    Reason::Unavailable,
    Reason::Internal,
];

/// One message of each type, with all optional members.
fn messages() -> Vec<Value> {
    let file = file();
    let bad = [BadRow { row: 1, reason: "is not a JSON object".into() }];
    let failure =
        Failure { file: Some(&file.name), reason: Reason::RowTooLong, message: "row 7 is too long", rows_delivered: 7 };
    let ending = EndingVersion { sequence: 3, files: String::new() };
    let snapshot = DirectorySnapshot {
        path: "datasets/run/AADUser".parse().unwrap(),
        id: Some("5e8f1d2a".into()),
        versions: String::new(),
    };
    let directory = JoinFacts { snapshot: Some(snapshot) };
    let messages = [
        Message::rows(&facts(), &file, 0..2, true, Some(&directory), br#"{"PersonId":"x"}"#[..].into(), &bad),
        Message::completed(&facts(), &ending, 1, 2, 1),
        Message::failed(&facts(), &ending, &failure, None),
        Message::check(),
    ];
    let messages = messages.into_iter().chain(attribute_messages());
    messages.inspect(|message| assert_valid(&message.body)).map(|m| serde_json::from_slice(&m.body).unwrap()).collect()
}

/// One message of each type about attributes, with all optional members.
fn attribute_messages() -> [Message; 5] {
    let json = br#"{"attributes": [{"name": "Email hours", "roles": {"Manager": ["report-filters"]}}]}"#;
    let definitions = Definitions::parse(json).unwrap();
    let facts = facts();
    let tenant = facts.tenant_id;
    let version = ImportVersion {
        tenant,
        program: "Engagement",
        cycle: "Oct",
        revision: 2,
        run: 0,
        drop: &facts.path,
        files: "",
        directory: None,
    };
    let import = ImportFacts {
        tenant_id: tenant,
        import_id: version.id(),
        drop: facts.clone(),
        program: "Engagement".into(),
        cycle: "Oct".into(),
        revision: 2,
        window: WindowFacts { start: "2024-07-21".into(), end: "2024-10-13".into(), weeks: 12, period: "week".into() },
    };
    let failure = ImportFailure {
        tenant_id: tenant,
        drop: facts.clone(),
        sequence: 9,
        program: "Engagement".into(),
        cycle: "Oct".into(),
        revision: 2,
        reason: "not-weekly".into(),
        message: "the dates are no Sundays".into(),
    };
    let people = br#"{"ObjectId":"9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10","directory":null,"weeks":11,
        "attributes":{"Email hours":{"range":2,"label":"3 to less than 6","value":4.5}}}"#;
    [
        Message::attributes_defined(tenant, 2, 1, &definitions),
        Message::attributes(&import, 0..1, people),
        Message::attributes_completed(
            &import,
            7,
            1,
            &RangeCounts(vec![("Email hours", [None, None, Some(5), Some(6)])]),
        ),
        Message::attributes_failed(&failure, None),
        Message::attributes_deleted(tenant, 8, "Email hours"),
    ]
}

/// Collects the JSON pointers of all members of `value`, except those in rows.
fn pointers(value: &Value, at: &str, pointers: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let at = format!("{at}/{name}");
                if at != "/data/rows" {
                    self::pointers(value, &at, pointers);
                }
                pointers.push(at);
            }
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(number, value)| self::pointers(value, &format!("{at}/{number}"), pointers));
        }
        _ => {}
    }
}

#[test]
fn the_schema_is_a_valid_json_schema() {
    jsonschema::meta::validate(&published()).unwrap();
}

#[test]
fn a_missing_or_renamed_member_is_invalid() {
    let validator = validator(&published());
    for message in messages() {
        validator.validate(&message).unwrap();
        let mut all = Vec::new();
        pointers(&message, "", &mut all);
        let concerns_a_drop = message["data"].get("drop").is_some();
        assert!(all.len() > if concerns_a_drop { 12 } else { 4 }, "{all:?}");
        // Only the schema without additional members notices the renaming of optional members. Names of attributes and
        // roles are free.
        let is_optional = |pointer: &&String| {
            let of_rows = ["/data/badRows", "/data/directory"].contains(&pointer.as_str());
            (of_rows && message["data"].get("file").is_some())
                || ["/Email hours", "/Manager", "/value"].iter().any(|end| pointer.ends_with(end))
        };
        for pointer in all.iter().filter(|pointer| !is_optional(pointer)) {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut changed = message.clone();
            let members = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let value = members.remove(name).unwrap();
            members.insert(format!("{name}s"), value);
            assert!(!validator.is_valid(&changed), "{pointer}");
        }
    }
}

#[test]
fn a_value_of_another_type_is_invalid() {
    let validator = validator(&published());
    for message in messages() {
        let mut all = Vec::new();
        pointers(&message, "", &mut all);
        for pointer in all {
            let mut changed = message.clone();
            *changed.pointer_mut(&pointer).unwrap() = json!(-1.5);
            assert!(!validator.is_valid(&changed), "{pointer}");
        }
    }
}

#[test]
fn receivers_accept_additional_members_and_this_version_sends_none() {
    let validator = validator(&published());
    for message in messages() {
        for parent in ["", "/data", "/data/drop", "/data/directory"]
            .into_iter()
            .filter(|parent| message.pointer(parent).is_some())
        {
            let mut changed = message.clone();
            changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert("new".into(), json!(1));
            validator.validate(&changed).unwrap();
            assert!(!violations(changed.to_string().as_bytes()).is_empty(), "{parent}");
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
