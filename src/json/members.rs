//! The members of a decoded row, without building a JSON value.

use std::borrow::Cow;

use super::scanner as json;

/// One member of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name, escapes undone.
    pub name: Cow<'a, [u8]>,
    /// The JSON text of its value.
    pub value: &'a [u8],
}

/// The members of `row`, in order. `row` must be a JSON object as a [`Decoder`](crate::stage::decode::Decoder) writes
/// it. A member whose name has half a surrogate pair, and so is not text, is skipped.
pub fn members(row: &[u8]) -> impl Iterator<Item = Member<'_>> {
    let mut at = json::after(row, json::space_end(row, 0), b'{');
    std::iter::from_fn(move || {
        let start = json::space_end(row, at?);
        let name = json::name(row, start)?;
        let value_end = end_of_value(row, name.value)?;
        at = json::after(row, json::space_end(row, value_end), b',');
        let text = json::unescaped(&row[start..name.end], name.has_escapes);
        Some(text.map(|text| Member { name: text, value: &row[name.value..value_end] }))
    })
    .flatten()
}

/// The JSON texts of the elements of `array`, in order; none if it is not an array. Like [`members`], for a value of a
/// decoded row.
pub fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = json::after(array, json::space_end(array, 0), b'[');
    std::iter::from_fn(move || {
        let start = json::space_end(array, at?);
        let value_end = end_of_value(array, start)?;
        at = json::after(array, json::space_end(array, value_end), b',');
        Some(&array[start..value_end])
    })
}

/// The end of the value at `at`.
fn end_of_value(row: &[u8], at: usize) -> Option<usize> {
    if row.get(at) == Some(&b'"') {
        json::string_end(row, at + 1).map(|(end, _)| end)
    } else {
        json::value_end(row, at, usize::MAX).ok()
    }
}

/// The content of the JSON text `value`, escapes undone. `None` if `value` is not a string, or has half a surrogate
/// pair.
pub fn string_value(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = value.strip_prefix(b"\"")?;
    json::unescaped(value, inner.contains(&b'\\'))
}

/// Whether `text` is a JSON number.
pub fn is_number(text: &[u8]) -> bool {
    json::number_end(text, 0) == Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_order_with_the_text_of_their_values() {
        let row = br#"{ "a" : 1.50, "b\u002b":"x,\"y", "c":{"d":[1,"}"]} ,"e":null}"#;
        let found: Vec<_> = members(row).map(|member| (member.name.into_owned(), member.value.to_vec())).collect();
        let expected: [(&str, &str); 4] =
            [("a", "1.50"), ("b+", r#""x,\"y""#), ("c", r#"{"d":[1,"}"]}"#), ("e", "null")];
        assert_eq!(found, expected.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(members(b"{}").count(), 0);
        assert_eq!(members(br#"{"\ud800":1,"a":2}"#).count(), 1);
    }

    #[test]
    fn elements_come_in_order_with_their_text() {
        let array = br#"[ "a,]" ,{"":[0]},[] , 1.50,null]"#;
        let expected: [&[u8]; 5] = [br#""a,]""#, br#"{"":[0]}"#, b"[]", b"1.50", b"null"];
        assert_eq!(elements(array).collect::<Vec<_>>(), expected);
        for other in ["[]", "[ ]", "null", r#""[1]""#, r#"{"a":[1]}"#] {
            assert_eq!(elements(other.as_bytes()).count(), 0, "{other}");
        }
    }

    #[test]
    fn strings_and_numbers_are_told_apart() {
        assert_eq!(string_value(br#""a\"b""#).as_deref(), Some(&br#"a"b"#[..]));
        assert_eq!(string_value(b"12"), None);
        assert!(is_number(b"-1.5e3") && !is_number(b"1 ") && !is_number(b"NaN") && !is_number(b""));
    }
}
