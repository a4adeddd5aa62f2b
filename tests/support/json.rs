//! Compares JSON exactly: digits of numbers, order of members, and repeated names count.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Object(Vec<(String, Self)>),
    List(Vec<Self>),
    Text(String),
    /// A number, `true`, `false` or `null`, as it is spelled.
    Literal(String),
}

impl Json {
    /// Parses one value.
    pub(crate) fn parse(text: &str) -> serde_json::Result<Self> {
        Ok(match text.trim_start().bytes().next() {
            Some(b'{') => Self::Object(members(text)?),
            Some(b'[') => {
                let list: Vec<Box<RawValue>> = serde_json::from_str(text)?;
                Self::List(list.iter().map(|value| Self::parse(value.get())).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            _ => Self::Literal(serde_json::from_str::<Box<RawValue>>(text)?.get().trim().to_owned()),
        })
    }

    /// The names of the members; empty if it is not an object.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Object(members) => members.iter().map(|(name, _)| name.as_str()).collect(),
            Self::List(_) | Self::Text(_) | Self::Literal(_) => Vec::new(),
        }
    }
}

/// Describes the first difference between two rows; `None` if they are equal.
fn difference(expected: &str, printed: &str) -> Option<String> {
    let expected = Json::parse(expected).expect("the expected row must be JSON");
    let Ok(printed) = Json::parse(printed) else {
        return Some("is not JSON".into());
    };
    if expected == printed {
        return None;
    }
    if expected.names() != printed.names() {
        return Some(format!("has the columns {:?}, expected {:?}", printed.names(), expected.names()));
    }
    let (Json::Object(expected), Json::Object(printed)) = (expected, printed) else {
        return Some("is not an object".into());
    };
    let (expected, printed) = expected.iter().zip(&printed).find(|(expected, printed)| expected != printed)?;
    Some(format!("has {:?} in `{}`, expected {:?}", printed.1, printed.0, expected.1))
}

/// Describes the first difference between two lists of rows; `None` if they are equal.
pub(crate) fn differences<'a>(
    expected: impl IntoIterator<Item = &'a str>,
    printed: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let (mut expected, mut printed) = (expected.into_iter(), printed.into_iter());
    for number in 0.. {
        let difference = match (expected.next(), printed.next()) {
            (None, None) => return None,
            (Some(_), None) => Some(format!("there are only {number} rows")),
            (None, Some(_)) => Some(format!("there are more than {number} rows")),
            (Some(expected), Some(printed)) => {
                difference(expected, printed).map(|difference| format!("row {number} {difference}"))
            }
        };
        if difference.is_some() {
            return difference;
        }
    }
    None
}

/// The members of an object in their order; names may repeat.
fn members(text: &str) -> serde_json::Result<Vec<(String, Json)>> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, Json)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                members.push((name, Json::parse(value.get()).map_err(serde::de::Error::custom)?));
            }
            Ok(members)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(Members)?;
    deserializer.end()?;
    Ok(members)
}
