//! Generated rows are decoded as the slow [`reference`] decodes them.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// Any JSON value, at most a few levels deep.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// JSON text in every kind of spelling: whitespace, escapes, exponents.
fn any_value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        6 => r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        4 => string(),
        1 => prop::sample::select(vec!["null", "true", "false", "[]", "{}", "[ ]", "{ \t}"]).prop_map(String::from),
    ];
    scalar.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), space())
                .prop_map(|(values, space)| format!("[{space}{}]", values.join(&format!("{space},")))),
            (prop::collection::vec((string(), inner), 0..4), space()).prop_map(|(pairs, space)| {
                let pairs: Vec<_> =
                    pairs.iter().map(|(name, value)| format!("{space}{name}{space}:{value}{space}")).collect();
                format!("{{{}}}", if pairs.is_empty() { space } else { pairs.join(",") })
            }),
        ]
    })
}

fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => r"[a-zA-Z0-9 :,{}\[\]+/=-]{0,20}",
        1 => r"\PC{0,3}".prop_map(|text| text.replace(['"', '\\'], "")),
        1 => r#"\\(["\\/bfnrt]|u[0-9a-fA-F]{4}|ud83d\\ude00)"#,
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t]{1,2}"]
}

/// The members of every row as raw JSON.
fn members(rows: &Rows) -> Vec<Vec<(String, String)>> {
    let raw = |raw: &RawValue| raw.get().to_owned();
    let lines = rows.text.split_inclusive(|&byte| byte == b'\n');
    lines
        .map(|line| {
            let members: Members<'_> = serde_json::from_slice(line).unwrap();
            members.0.into_iter().map(|(name, value)| (raw(name), raw(value))).collect()
        })
        .collect()
}

/// All members of an object, including those with the same name.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> serde::de::Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A row with converted columns and others.
fn any_row() -> impl Strategy<Value = Vec<u8>> {
    let encrypted = prop::sample::select(vec![
        encrypt(Cipher::Ctr, GUID),
        encrypt(Cipher::Cbc, GUID),
        encrypt(Cipher::Ctr, "\"é\n\u{1}"),
    ]);
    let pair = prop_oneof![
        (Just("\"ObjectId\"".to_owned()), prop_oneof![encrypted.prop_map(|text| format!("\"{text}\"")), any_value()]),
        (Just("\"Meetings\"".to_owned()), prop_oneof![r#""-?[0-9]{1,3}(\.[0-9]{1,9})?""#, any_value()]),
        (Just("\"IsAct\\u0069ve\"".to_owned()), prop_oneof![r#""([tT]rue|FALSE|yes)""#, any_value()]),
        (string(), any_value()),
        (string(), any_value()),
    ];
    (prop::collection::vec((space(), pair, space()), 0..7), space()).prop_map(|(pairs, space)| {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(before, (name, value), after)| format!("{before}{name}{after}:{before}{value}{after}"))
            .collect();
        format!("{space}{{{}}}{space}", pairs.join(",")).into_bytes()
    })
}

/// A change at one position of a line.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(u8),
    Insert(u8),
    Remove(usize),
    Truncate,
    RepeatRest,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let byte = || prop_oneof![3 => prop::sample::select(br#"{}[]",:\ 0-.eEu+tn"#.to_vec()), 1 => any::<u8>()];
    prop_oneof![
        byte().prop_map(Mutation::Replace),
        byte().prop_map(Mutation::Insert),
        (1_usize..20).prop_map(Mutation::Remove),
        Just(Mutation::Truncate),
        Just(Mutation::RepeatRest),
    ]
}

fn check_against_reference<'a>(
    lines: impl Iterator<Item = &'a [u8]> + Clone,
    has_key: bool,
) -> Result<(), TestCaseError> {
    let decoder = Decoder::new(&RowRules::default(), has_key.then(key).as_ref());
    let text: Vec<u8> = lines.clone().flat_map(|line| [line, b"\n"].concat()).collect();
    let rows = decoder.rows(&text.clone().into()).unwrap();
    let (mut good, mut bad, mut number) = (Vec::new(), Vec::new(), 0);
    for line in Block::from(text).lines().filter(|line| !is_blank(line)) {
        match reference::row(&decoder, line) {
            Ok(row) => good.extend([&row[..], b"\n"].concat()),
            Err(reason) => bad.push((number, reason)),
        }
        number += 1;
    }
    prop_assert_eq!(String::from_utf8(rows.text.to_vec()).unwrap(), String::from_utf8(good).unwrap());
    prop_assert_eq!(self::bad(&rows), bad);
    Ok(())
}

proptest! {
    #[test]
    fn rows_without_special_columns_pass_byte_for_byte(value in json()) {
        let line = serde_json::json!({ "any": value }).to_string();
        prop_assert_eq!(decoded(&line), format!("{line}\n"));
    }

    #[test]
    fn a_line_is_a_row_exactly_if_serde_json_parses_an_object(line in r#"[\{\}\[\]",:0-9a-z\\ .\-]{0,24}"#) {
        let is_object = serde_json::from_str::<HashMap<String, serde::de::IgnoredAny>>(&line).is_ok();
        let rows = rows_with(&RowRules::default(), None, &line);
        prop_assert_eq!(rows.ends.len() == 1, is_object, "{}", line);
    }

    #[test]
    fn numbers_are_those_of_serde_json(text in r"-{0,2}[0-9]{0,20}\.?[0-9]{0,20}[eE]?[+-]?[0-9]{0,2}") {
        let is_number = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
        prop_assert_eq!(json::number_end(text.as_bytes(), 0) == Some(text.len()), is_number, "{}", text);
    }

    #[test]
    fn decoded_rows_are_those_of_the_reference(
        rows in prop::collection::vec(any_row(), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        has_key in any::<bool>(),
    ) {
        let lines = order.iter().map(|row| row.get(&rows).as_slice());
        check_against_reference(lines, has_key)?;
    }

    #[test]
    fn mutated_rows_are_decoded_like_those_of_the_reference(
        row in any_row(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..12),
    ) {
        // Each mutated row follows the original row, so that its names are predicted.
        let mut lines = Vec::new();
        for (at, mutation) in mutations {
            let mut line = row.clone();
            let at = at.index(line.len() + 1);
            match mutation {
                Mutation::Replace(byte) if at < line.len() => line[at] = byte,
                Mutation::Replace(byte) | Mutation::Insert(byte) => line.insert(at, byte),
                Mutation::Remove(count) => { line.drain(at..(at + count).min(line.len())); }
                Mutation::Truncate => line.truncate(at),
                Mutation::RepeatRest => line.extend_from_within(at..),
            }
            lines.extend([row.clone(), line]);
        }
        check_against_reference(lines.iter().map(Vec::as_slice), true)?;
    }

    #[test]
    fn omitting_columns_changes_nothing_else(
        rows in prop::collection::vec(any_row(), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        columns in prop::sample::subsequence(vec!["ObjectId", "Meetings", "IsActive", "", "a"], 0..5),
    ) {
        let text: Vec<u8> = order.iter().flat_map(|row| [row.get(&rows).as_slice(), b"\n"].concat()).collect();
        let text = String::from_utf8(text).unwrap();
        // Without a key no value makes a row bad.
        let all = rows_with(&RowRules::default(), None, &text);
        let some = rows_with(&with_columns(&columns), None, &text);
        let is_kept = |(name, _): &(String, String)| {
            serde_json::from_str::<String>(name).is_ok_and(|name| columns.contains(&name.as_str()))
        };
        let expected: Vec<Vec<_>> =
            members(&all).into_iter().map(|row| row.into_iter().filter(is_kept).collect()).collect();
        prop_assert_eq!(members(&some), expected);
        prop_assert_eq!(some.bad, all.bad);
    }

    #[test]
    fn any_text_of_an_encrypted_column_is_decrypted(text in any::<String>(), cbc in any::<bool>()) {
        let cipher = if cbc { Cipher::Cbc } else { Cipher::Ctr };
        let rules = RowRules { column_cipher: Some(cipher), ..RowRules::default() };
        let line = format!(r#"{{"ObjectId":"{}"}}"#, encrypt(cipher, &text));
        let rows = rows_with(&rules, Some(&key()), &line);
        let row: HashMap<String, String> = serde_json::from_slice(&rows.text).unwrap();
        prop_assert!(row["ObjectId"] == text);
    }
}
