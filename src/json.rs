//! Parses JSON from outside the process. The memory for it is a small multiple of the text, and errors never quote the
//! text.
//!
//! A [`Value`] can take 80 times the size of its text. So JSON is parsed into types that keep only the members that are
//! needed; where the shape varies, [`bounded_value`] limits the number of values.

pub mod members;
pub(crate) mod scanner;

use std::{fmt, marker::PhantomData};

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The bytes do not begin with a JSON object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnObject {
    /// There is only white space.
    #[error("is empty")]
    Empty,
    /// The bytes begin with something else, or the object is cut off.
    #[error("does not begin with a JSON object: see line {line}, column {column}")]
    Malformed {
        /// The line in which parsing failed, from 1.
        line: usize,
        /// The position in that line, in bytes.
        column: usize,
    },
}

/// The first JSON object in `bytes`, after an optional byte-order mark and white space. Bytes after it are not read.
pub fn first_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotAnObject> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let rest = text.trim_ascii_start();
    if rest.is_empty() {
        return Err(NotAnObject::Empty);
    }
    if rest.first() != Some(&b'{') {
        let before = &text[..text.len() - rest.len()];
        let line = before.split(|&byte| byte == b'\n').count();
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        return Err(NotAnObject::Malformed { line, column });
    }
    match serde_json::Deserializer::from_slice(text).into_iter().next() {
        Some(Ok(object)) => Ok(object),
        // Only the position: the parser's message may quote the document.
        Some(Err(error)) => Err(NotAnObject::Malformed { line: error.line(), column: error.column() }),
        None => Err(NotAnObject::Empty),
    }
}

/// The members of a JSON object that a type keeps.
pub(crate) trait Members: Default {
    /// Reads the value of the member `name` from `values`, or returns `false` if the member is to be skipped.
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, values: &mut A) -> Result<bool, A::Error>;
}

/// Deserializes a JSON object, of which only some members are kept.
pub(crate) fn deserialize_members<'de, T: Members, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct MembersVisitor<T>(PhantomData<T>);
    impl<'de, T: Members> Visitor<'de> for MembersVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
            read_members(members)
        }
    }
    deserializer.deserialize_map(MembersVisitor(PhantomData))
}

/// Reads the members of a JSON object, of which only some are kept: [`deserialize_members`] for visitors that also
/// accept values that are not objects.
pub(crate) fn read_members<'de, T: Members, A: MapAccess<'de>>(mut members: A) -> Result<T, A::Error> {
    let mut kept = T::default();
    while let Some(name) = members.next_key::<String>()? {
        if !kept.read(&name, &mut members)? {
            members.next_value::<IgnoredAny>()?;
        }
    }
    Ok(kept)
}

/// A value of which only a text is kept.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Text {
    /// A string.
    String(String),
    /// A value of another type, except null.
    Other,
}

impl Text {
    /// The text, if the value is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Other => None,
        }
    }

    /// Reads the next value of an object; `None` if it is null.
    pub(crate) fn read<'de, A: MapAccess<'de>>(values: &mut A) -> Result<Option<Self>, A::Error> {
        values.next_value()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::String(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text::String(text))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
                Ok(Text::Other)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Text, E> {
                Ok(Text::Other)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Text, E> {
                Ok(Text::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
                Ok(Text::Other)
            }

            fn visit_unit<E: Error>(self) -> Result<Text, E> {
                Ok(Text::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Text, A::Error> {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Text, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text::Other)
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// The nesting depth limit of [`bounded_value`]. Payloads of the Functions host have less than ten levels.
pub const MAX_DEPTH: usize = 32;

/// The memory limit of [`bounded_value`], in units of about 40 bytes: 8 MiB. The values of 1 MiB of events take less.
pub const MAX_UNITS: usize = 200_000;

/// The units of a scalar. Units do not count the text of strings and names.
const SCALAR_UNITS: usize = 1;
const STRING_UNITS: usize = 2;
/// A member has a name.
const MEMBER_UNITS: usize = 2;
/// The first element of a list allocates room for four.
const LIST_UNITS: usize = 4;
/// The first member of an object allocates room for eleven.
const OBJECT_UNITS: usize = 16;

/// Why a JSON text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The text is not JSON.
    #[error("is not valid JSON: line {line}, column {column}")]
    Json {
        /// The line, counted from 1.
        line: usize,
        /// The column, in bytes.
        column: usize,
    },
    /// The text has more values than [`MAX_UNITS`] allows.
    #[error("has too many values")]
    TooManyValues,
    /// The text has more than [`MAX_DEPTH`] levels of lists and objects.
    #[error("is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Parses a JSON text of any shape. Besides the text, the value takes at most 8 MiB.
pub fn bounded_value(text: &[u8]) -> Result<Value, Unreadable> {
    let mut budget = Budget { units: MAX_UNITS, exceeded: None };
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = BoundedValue { budget: &mut budget, depth: 0 }.deserialize(&mut json);
    match value.and_then(|value| json.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) => Err(budget.exceeded.unwrap_or(Unreadable::Json { line: error.line(), column: error.column() })),
    }
}

/// The units that [`bounded_value`] may still use.
struct Budget {
    units: usize,
    /// The limit that was exceeded.
    exceeded: Option<Unreadable>,
}

impl Budget {
    fn take<E: Error>(&mut self, units: usize) -> Result<(), E> {
        match self.units.checked_sub(units) {
            Some(left) => {
                self.units = left;
                Ok(())
            }
            None => Err(self.exceed(Unreadable::TooManyValues)),
        }
    }

    fn exceed<E: Error>(&mut self, limit: Unreadable) -> E {
        self.exceeded = Some(limit);
        E::custom(limit)
    }
}

struct BoundedValue<'b> {
    budget: &'b mut Budget,
    /// The number of lists and objects around the value.
    depth: usize,
}

impl BoundedValue<'_> {
    fn enter<E: Error>(&mut self, units: usize) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.budget.exceed(Unreadable::TooDeep));
        }
        self.budget.take(units)?;
        Ok(self.depth + 1)
    }

    fn scalar<E: Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.budget.take(SCALAR_UNITS)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for BoundedValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BoundedValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.budget.take(STRING_UNITS)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Value, A::Error> {
        let depth = self.enter(LIST_UNITS)?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(BoundedValue { budget: &mut *self.budget, depth })? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.enter(OBJECT_UNITS)?;
        let mut object = Map::new();
        while let Some(name) = members.next_key()? {
            self.budget.take(MEMBER_UNITS)?;
            let value = members.next_value_seed(BoundedValue { budget: &mut *self.budget, depth })?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_first_object_is_read() {
        for text in ["{\"a\":1}", "\u{feff}{\"a\":1}", " \r\n{\"a\":1}{\"a\":2}", "{\"a\":1}\n\u{0}not json"] {
            assert_eq!(first_object::<Map<_, _>>(text.as_bytes()).unwrap()["a"], 1, "{text:?}");
        }
        assert_eq!(first_object::<Map<_, _>>(b"{\"a\":1}\xff\xfe").unwrap()["a"], 1);
    }

    #[test]
    fn an_error_states_the_position_and_quotes_nothing() {
        assert_eq!(first_object::<Map<_, _>>(b"\xef\xbb\xbf \n"), Err(NotAnObject::Empty));
        for text in ["[{}]", "\"secret\"", "{\"a\":secret}", "{\"a\":\"secret", "7", "\u{feff}\u{feff}{}"] {
            let error = first_object::<Map<_, _>>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
        }
        let second_line = first_object::<Map<_, _>>(b"\n  [{}]");
        assert_eq!(second_line, Err(NotAnObject::Malformed { line: 2, column: 3 }));
    }

    #[test]
    fn a_value_of_any_shape_has_limits() {
        let list = |element: &str, count: usize| format!("[{}{element}]", format!("{element},").repeat(count - 1));
        for (text, limit) in [
            (list("0", MAX_UNITS), Unreadable::TooManyValues),
            (list("[]", MAX_UNITS / 4), Unreadable::TooManyValues),
            (list("{\"\":0}", MAX_UNITS / 19 + 1), Unreadable::TooManyValues),
            (list("\"\"", MAX_UNITS / 2), Unreadable::TooManyValues),
            ("[".repeat(MAX_DEPTH + 1), Unreadable::TooDeep),
            ("{\"a\":".repeat(100_000), Unreadable::TooDeep),
            ("[1,".into(), Unreadable::Json { line: 1, column: 3 }),
            ("[1]x".into(), Unreadable::Json { line: 1, column: 4 }),
        ] {
            assert_eq!(bounded_value(text.as_bytes()), Err(limit));
        }
        assert!(bounded_value(list("0", MAX_UNITS - 4).as_bytes()).is_ok());
        assert!(bounded_value(format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn within_the_limits_a_value_is_that_of_serde_json(text in r#"[\[\]{},:0-9ae" ."\\-]{0,24}"#) {
            prop_assert_eq!(bounded_value(text.as_bytes()).ok(), serde_json::from_str::<Value>(&text).ok());
        }
    }
}
