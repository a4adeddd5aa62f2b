//! Makes untrusted text safe to print in a log line, in the ledger or in an answer to the host.

/// `text` in one line of at most `longest` characters: control characters and line ends become spaces, or nothing at either
/// end; what is cut off is marked with `…`.
pub fn one_line(text: &str, longest: usize) -> String {
    let text = text.trim_matches(|c: char| shown(c).is_whitespace());
    let mut line: String = text.chars().take(longest + 1).map(shown).collect();
    if let Some((at, _)) = line.char_indices().nth(longest) {
        let last = line[..at].char_indices().next_back().map_or(0, |(last, _)| last);
        line.truncate(last);
        line.push('…');
    }
    line
}

fn shown(c: char) -> char {
    let breaks_a_line = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if breaks_a_line { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_stays_as_it_is_but_for_what_breaks_a_line() {
        assert_eq!(one_line("no consent", 20), "no consent");
        assert_eq!(one_line(" a\r\nb\tc\u{1b}[31md\u{2028}e\n", 20), "a  b c [31md e");
        assert_eq!(one_line("\u{7f} a\0 \n", 20), "a");
        assert_eq!(one_line("\0\u{7f}\u{1b}", 20), "");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(one_line("äöüß", 4), "äöüß");
        assert_eq!(one_line("äöüßx", 4), "äöü…");
        assert_eq!(one_line(&"x".repeat(5_000), 1_000).chars().count(), 1_000);
    }
}
