//! Makes untrusted text safe to print in a log line, in the ledger or in an answer to the host.

/// Converts `text` to one line of at most `max_chars` characters.
///
/// Control characters and line ends become spaces; those at the start and the end are removed. If the line is too long, it
/// is cut and ends with `…`.
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

/// Replaces control characters and line ends by spaces.
fn printable(c: char) -> char {
    let breaks_a_line = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if breaks_a_line { ' ' } else { c }
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
    fn a_long_text_is_cut_at_a_character_boundary() {
        assert_eq!(one_line("äöüß", 4), "äöüß");
        assert_eq!(one_line("äöüßx", 4), "äöü…");
        assert_eq!(one_line(&"x".repeat(5_000), 1_000).chars().count(), 1_000);
    }
}
