//! The file of `--env-file`, in the format of `docker run --env-file`: one `NAME=value` per line.
//!
//! Values are taken as they are, without quotes, escapes or substitutions, because secrets and JSON may contain any
//! character. Lines that are blank or begin with `#` are comments.

use std::collections::BTreeMap;

/// Parses the text of the file. Errors name the line, and quote nothing: it may contain a secret.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {number}: expected NAME=value"))?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("line {number}: expected NAME=value, without spaces in the name"));
        }
        if variables.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("line {number}: the name appears twice"));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_are() {
        let text =
            "\u{feff}# local\r\nTENANTS={\"a\": \"$b # c\"}\r\n\n  # comment\nDropStorage=AccountKey=x==\nEMPTY=\n";
        let expected = [("TENANTS", "{\"a\": \"$b # c\"}"), ("DropStorage", "AccountKey=x=="), ("EMPTY", "")];
        assert_eq!(parse(text).unwrap(), expected.map(|(name, value)| (name.into(), value.into())).into());
    }

    #[test]
    fn a_line_that_is_not_a_setting_is_named_and_not_quoted() {
        for (text, error) in [
            ("A=1\nhidden", "line 2: expected NAME=value"),
            ("=hidden", "line 1: expected NAME=value, without spaces in the name"),
            ("export A=hidden", "line 1: expected NAME=value, without spaces in the name"),
            ("A=1\nA=hidden", "line 2: the name appears twice"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()));
        }
    }
}
