//! Finds the JSON object at the start of a document, and describes a failure without quoting the document.

use serde_json::{Deserializer, Map, Value};

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
pub fn first_object(bytes: &[u8]) -> Result<Map<String, Value>, NotAnObject> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match Deserializer::from_slice(text).into_iter().next() {
        Some(Ok(object)) => Ok(object),
        // Only the position: the parser's message may quote the document.
        Some(Err(error)) => Err(NotAnObject::Malformed { line: error.line(), column: error.column() }),
        None => Err(NotAnObject::Empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_object_is_read() {
        for text in ["{\"a\":1}", "\u{feff}{\"a\":1}", " \r\n{\"a\":1}{\"a\":2}", "{\"a\":1}\n\u{0}not json"] {
            assert_eq!(first_object(text.as_bytes()).unwrap()["a"], 1, "{text:?}");
        }
        assert_eq!(first_object(b"{\"a\":1}\xff\xfe").unwrap()["a"], 1);
    }

    #[test]
    fn an_error_states_the_position_and_quotes_nothing() {
        assert_eq!(first_object(b"\xef\xbb\xbf \n"), Err(NotAnObject::Empty));
        for text in ["[{}]", "\"secret\"", "{\"a\":secret}", "{\"a\":\"secret", "7", "\u{feff}\u{feff}{}"] {
            let error = first_object(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
        }
    }
}
