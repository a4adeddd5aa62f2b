//! Posts of every size, in pieces of every size.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn reduced(text: &[u8], piece: usize) -> Result<Reduced, PostTooLarge> {
    reduced_by(Elide::default(), text, piece)
}

fn reduced_by(mut elide: Elide, text: &[u8], piece: usize) -> Result<Reduced, PostTooLarge> {
    text.chunks(piece).try_for_each(|piece| elide.push(piece))?;
    Ok(elide.finish())
}

fn text_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[test]
fn a_long_string_is_left_out_and_the_rest_stays() {
    let content = "SGVs".repeat(1 << 20);
    let post = text_of(&json!({"Data": {"blob": content}, "Metadata": {"Uri": "\"https://a\"", "x": 1}}));
    for piece in [1, 7, 65_536, usize::MAX] {
        let reduced = reduced(&post, piece).unwrap();
        assert_eq!(reduced.left_out, 1);
        assert_eq!(reduced.parse(), Ok(json!({"Data": {"blob": ""}, "Metadata": {"Uri": "\"https://a\"", "x": 1}})));
        assert!(reduced.json.len() < 100);
    }
}

#[test]
fn a_string_is_kept_up_to_the_bound_and_left_out_beyond_it() {
    for (bytes, kept) in [(LONGEST_STRING, true), (LONGEST_STRING + 1, false)] {
        let post = text_of(&json!(["x".repeat(bytes), "y"]));
        for piece in [1_000, usize::MAX] {
            let reduced = reduced(&post, piece).unwrap();
            assert_eq!(reduced.json == post, kept, "{bytes} bytes");
            assert_eq!(reduced.left_out, usize::from(!kept));
        }
    }
}

#[test]
fn an_escaped_quote_does_not_end_a_string_that_is_left_out() {
    let long = "x".repeat(LONGEST_STRING);
    let post = text_of(&json!([format!("{long}\"\\\\\",\\"), "y\\\""]));
    for piece in [1, 2, 3, usize::MAX] {
        let reduced = reduced(&post, piece).unwrap();
        assert_eq!(reduced.parse(), Ok(json!(["", "y\\\""])));
    }
}

#[test]
fn a_post_that_stays_too_large_is_refused_in_whatever_pieces() {
    let fits = vec![b'['; LARGEST_POST];
    let too_large = vec![b'['; LARGEST_POST + 1];
    let many = text_of(&json!(vec!["x".repeat(LONGEST_STRING - 1); 4]));
    for piece in [1_000, usize::MAX] {
        assert!(reduced(&fits, piece).is_ok());
        assert_eq!(reduced(&too_large, piece), Err(PostTooLarge));
        assert_eq!(reduced(&many, piece), Err(PostTooLarge));
    }
}

#[test]
fn a_post_that_is_cut_short_is_no_json() {
    let refusal = reduced(b"{\"Data\": \n\"secret", 3).unwrap().parse().unwrap_err();
    assert!(refusal.to_string().contains("line 2"), "{refusal}");
    assert!(!refusal.to_string().contains("secret"), "{refusal}");
}

#[test]
fn a_post_is_not_printed() {
    let mut elide = Elide::default();
    elide.push(b"[\"secret\"]").unwrap();
    assert_eq!(format!("{elide:?}"), "Elide(10 bytes, 0 strings left out)");
    assert_eq!(format!("{:?}", elide.finish()), "Reduced(10 bytes, 0 strings left out)");
}

#[test]
fn an_answer_is_an_object_with_one_line() {
    let answer = serde_json::to_value(Answer::new("delivered 7 rows\nof `part-0`")).unwrap();
    let logs = ["delivered 7 rows of `part-0`"];
    assert_eq!(answer, json!({"Outputs": {}, "Logs": logs, "ReturnValue": null}));
    let text = serde_json::to_string(&Answer::new("x")).unwrap();
    assert_eq!(text, r#"{"Outputs":{},"Logs":["x"],"ReturnValue":null}"#);
}

/// JSON with strings full of what has a meaning in strings.
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

/// `value` with every string empty that is longer than `longest` as written.
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
    fn where_all_strings_are_short_nothing_changes(value in any_json(), pretty: bool, piece in 1_usize..40) {
        let text = if pretty { serde_json::to_vec_pretty(&value).unwrap() } else { text_of(&value) };
        let reduced = reduced(&text, piece).unwrap();
        prop_assert_eq!(&reduced.json, &text);
        prop_assert_eq!(reduced.left_out, 0);
    }

    #[test]
    fn long_strings_alone_are_emptied(value in any_json(), longest in 0_usize..16, piece in 1_usize..40) {
        let reduced = reduced_by(Elide::leaving_out_over(longest), &text_of(&value), piece).unwrap();
        prop_assert_eq!(reduced.parse().unwrap(), without_long_strings(value, longest));
    }

    #[test]
    fn whatever_the_bytes_pieces_make_no_difference(bytes in prop::collection::vec(prop::sample::select(b"\"\\a{".to_vec()), 0..200), piece in 1_usize..20) {
        prop_assert_eq!(reduced(&bytes, piece), reduced(&bytes, usize::MAX));
        prop_assert_eq!(reduced(&bytes, piece).unwrap().json, bytes);
    }
}
