//! Makes untrusted text safe to print in a log line, in the ledger or in an answer to the host.

use std::{borrow::Cow, io};

/// Converts `text` to one line of at most `max_chars` characters.
///
/// Control characters, line ends, and characters that are invisible or change the direction of text become spaces.
/// Spaces at the start and the end are removed. If the line is too long, it is cut and ends with `…`.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let text = text.trim_matches(|c: char| printable(c).is_whitespace());
    let mut line: String = text.chars().take(max_chars).map(printable).collect();
    let is_cut = text.chars().nth(max_chars).is_some();
    if is_cut {
        line.pop();
        line.push('…');
    }
    line
}

/// Replaces control characters, line ends and invisible characters by spaces.
fn printable(c: char) -> char {
    if c.is_control() || is_deceptive(c) { ' ' } else { c }
}

/// Escapes invisible characters, and those that change how the rest of a line is displayed, as `\u202e`, so that a name
/// that somebody else chose cannot forge other text. The escapes are those of JSON, so the value of a JSON text stays
/// the same. Keeps control characters, which the caller needs for line ends and colours.
pub fn escape_deceptive(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(is_deceptive) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_deceptive(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped += &format!("\\u{unit:04x}"));
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// Writes text with [`escape_deceptive`].
///
/// The writer of logs: names of blobs, folders and columns are text from outside, and occur in many log lines.
pub(crate) struct EscapeDeceptive<W>(pub(crate) W);

impl<W: io::Write> io::Write for EscapeDeceptive<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(escape_deceptive(text).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether `c` separates lines or paragraphs, controls the direction of text, or is invisible: the format characters of
/// Unicode (category Cf), except visible ones, and characters without a glyph.
fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_line_ends_become_spaces() {
        assert_eq!(one_line("no consent", 20), "no consent");
        assert_eq!(one_line(" a\r\nb\tc\u{1b}[31md\u{2028}e\n", 20), "a  b c [31md e");
        assert_eq!(one_line("\u{7f} a\0 \n", 20), "a");
        assert_eq!(one_line("\0\u{7f}\u{1b}", 20), "");
    }

    #[test]
    fn a_name_cannot_reverse_or_hide_the_text_around_it() {
        let controls = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{2029}";
        for c in controls.chars().chain("\u{feff}\u{200b}\u{2060}\u{ad}\u{fff9}\u{e0041}\u{180e}".chars()) {
            assert_eq!(one_line(&format!("{c}a{c}b{c}"), 20), "a b", "{c:?}");
            let text = format!("ü{c}b\n");
            let escaped = escape_deceptive(&text);
            assert!(!escaped.contains(c) && escaped.starts_with("ü\\u") && escaped.ends_with("b\n"), "{escaped}");
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<String>(&escape_deceptive(&json)).unwrap(), text);
        }
        for text in ["part-0.json.gz", "größe 日本 🙂\u{1b}[0m", ""] {
            assert_eq!(escape_deceptive(text), text);
        }
    }

    #[test]
    fn log_lines_with_deceptive_names_are_escaped() {
        use std::io::Write;
        let mut log = EscapeDeceptive(Vec::new());
        log.write_all("completed `a\u{202e}b`\n".as_bytes()).unwrap();
        log.write_all(b"\xff\n").unwrap();
        assert_eq!(log.0, b"completed `a\\u202eb`\n\xff\n");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_boundary() {
        assert_eq!(one_line("äöüß", 4), "äöüß");
        assert_eq!(one_line("äöüßx", 4), "äöü…");
        assert_eq!(one_line(&"x".repeat(5_000), 1_000).chars().count(), 1_000);
    }
}
