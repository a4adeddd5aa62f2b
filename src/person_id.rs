//! The compact form of a person's id.

use std::fmt;

use uuid::Uuid;

/// A person by Microsoft Entra object id: 16 bytes, ordered as their lower-case text is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonId([u8; 16]);

impl PersonId {
    /// Reads a GUID in its hyphenated form, in any case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        // Of the forms that `uuid` accepts, only the hyphenated one has 36 bytes.
        (text.len() == 36).then(|| Uuid::try_parse_ascii(text).ok()).flatten().map(|id| Self(id.into_bytes()))
    }

    /// The id as 16 bytes, in the order of its text.
    pub fn into_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for PersonId {
    /// An id is personal data and does not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonId(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_in_any_case() {
        let id = |text: &str| PersonId::parse(text.as_bytes());
        let lower = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";
        assert_eq!(id(lower), id(&lower.to_uppercase()));
        assert_eq!(id(lower).unwrap().to_string(), lower);
        assert!(id("0f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10") < id(lower));
        for text in [
            "",
            "9f1c7fd31a334f2b9d3c0a8f6f2d7e10",
            "{9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10}",
            "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e1g",
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
