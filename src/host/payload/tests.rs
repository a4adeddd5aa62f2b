//! Payloads of many sizes, split into pieces of many sizes.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn trimmed(text: &[u8], piece: usize) -> Result<TrimmedPayload, PayloadTooLarge> {
    trimmed_by(PayloadTrimmer::default(), text, piece)
}

fn trimmed_by(mut trimmer: PayloadTrimmer, text: &[u8], piece: usize) -> Result<TrimmedPayload, PayloadTooLarge> {
    text.chunks(piece).try_for_each(|piece| trimmer.push(piece))?;
    Ok(trimmer.finish())
}

fn text_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[test]
fn a_long_string_is_omitted_and_the_rest_is_kept() {
    let content = "SGVs".repeat(1 << 20);
    let payload = text_of(&json!({"Data": {"blob": content}, "Metadata": {"Uri": "\"https://a\"", "x": 1}}));
    for piece in [1, 7, 65_536, usize::MAX] {
        let trimmed = trimmed(&payload, piece).unwrap();
        assert_eq!(trimmed.omitted, 1);
        assert_eq!(trimmed.parse(), Ok(json!({"Data": {"blob": ""}, "Metadata": {"Uri": "\"https://a\"", "x": 1}})));
        assert!(trimmed.json.len() < 100);
    }
}

#[test]
fn a_string_is_kept_up_to_the_limit_and_omitted_above_it() {
    for (bytes, kept) in [(MAX_STRING_BYTES, true), (MAX_STRING_BYTES + 1, false)] {
        let payload = text_of(&json!(["x".repeat(bytes), "y"]));
        for piece in [1_000, usize::MAX] {
            let trimmed = trimmed(&payload, piece).unwrap();
            assert_eq!(trimmed.json == payload, kept, "{bytes} bytes");
            assert_eq!(trimmed.omitted, usize::from(!kept));
        }
    }
}

#[test]
fn an_escaped_quote_does_not_end_an_omitted_string() {
    let long = "x".repeat(MAX_STRING_BYTES);
    let payload = text_of(&json!([format!("{long}\"\\\\\",\\"), "y\\\""]));
    for piece in [1, 2, 3, usize::MAX] {
        let trimmed = trimmed(&payload, piece).unwrap();
        assert_eq!(trimmed.parse(), Ok(json!(["", "y\\\""])));
    }
}

#[test]
fn a_payload_that_remains_too_large_is_rejected() {
    let fits = vec![b'['; MAX_PAYLOAD_BYTES];
    let too_large = vec![b'['; MAX_PAYLOAD_BYTES + 1];
    let many = text_of(&json!(vec!["x".repeat(MAX_STRING_BYTES - 1); 4]));
    for piece in [1_000, usize::MAX] {
        assert!(trimmed(&fits, piece).is_ok());
        assert_eq!(trimmed(&too_large, piece), Err(PayloadTooLarge));
        assert_eq!(trimmed(&many, piece), Err(PayloadTooLarge));
    }
}

#[test]
fn a_truncated_payload_is_invalid_json() {
    let error = trimmed(b"{\"Data\": \n\"secret", 3).unwrap().parse().unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn debug_output_does_not_show_the_payload() {
    let mut trimmer = PayloadTrimmer::default();
    trimmer.push(b"[\"secret\"]").unwrap();
    assert_eq!(format!("{trimmer:?}"), "PayloadTrimmer(10 bytes, 0 strings omitted)");
    assert_eq!(format!("{:?}", trimmer.finish()), "TrimmedPayload(10 bytes, 0 strings omitted)");
}

/// JSON whose strings are full of quotes, backslashes and other characters that need escaping.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[\"\\\\a\u{0}\u{e9}{}:,]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[\"\\\\a]{0,6}", inner), 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// `value` with `""` in place of every string that is longer than `longest` as written.
fn without_long_strings(value: Value, longest: usize) -> Value {
    let kept = |text: String| {
        let written = serde_json::to_string(&text).unwrap().len() - 2;
        if written > longest { String::new() } else { text }
    };
    match value {
        Value::String(text) => kept(text).into(),
        Value::Array(list) => list.into_iter().map(|item| without_long_strings(item, longest)).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members.map(|(name, value)| (kept(name), without_long_strings(value, longest))).collect()
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn a_payload_with_short_strings_is_unchanged(value in any_json(), pretty: bool, piece in 1_usize..40) {
        let text = if pretty { serde_json::to_vec_pretty(&value).unwrap() } else { text_of(&value) };
        let trimmed = trimmed(&text, piece).unwrap();
        prop_assert_eq!(&trimmed.json, &text);
        prop_assert_eq!(trimmed.omitted, 0);
    }

    #[test]
    fn only_long_strings_are_emptied(value in any_json(), longest in 0_usize..16, piece in 1_usize..40) {
        let trimmed = trimmed_by(PayloadTrimmer::with_max_string(longest), &text_of(&value), piece).unwrap();
        prop_assert_eq!(trimmed.parse().unwrap(), without_long_strings(value, longest));
    }

    #[test]
    fn the_result_does_not_depend_on_the_pieces(bytes in prop::collection::vec(prop::sample::select(b"\"\\a{".to_vec()), 0..200), piece in 1_usize..20) {
        prop_assert_eq!(trimmed(&bytes, piece), trimmed(&bytes, usize::MAX));
        prop_assert_eq!(trimmed(&bytes, piece).unwrap().json, bytes);
    }
}
