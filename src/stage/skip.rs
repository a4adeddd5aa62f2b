//! Rows that an earlier run has delivered, read past: gzip cannot be entered in the middle. Knows lines, and decodes none.

use memchr::memchr;

use super::{
    decode::RowTooLong,
    lines::{Block, is_blank},
};

/// Leaves out the first rows of a text.
pub struct SkipRows {
    first_row: u64,
    row: u64,
    longest: usize,
}

impl SkipRows {
    /// Leaves out the rows before `first_row` of a text whose lines have at most `longest` bytes, line ends not counted.
    pub fn new(first_row: u64, longest: usize) -> Self {
        Self { first_row, row: 0, longest }
    }

    /// Takes the next block; returns what is to be decoded of it, if anything.
    ///
    /// A line that is too long ends the text here as it does for the decoder: what is behind it was not read.
    pub fn push(&mut self, mut block: Block) -> Result<Option<Block>, RowTooLong> {
        let text = block.text();
        let mut at = 0;
        while self.row < self.first_row && at < text.len() {
            let rest = &text[at..];
            let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
            at = (at + line.len() + 1).min(text.len());
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > self.longest {
                return Err(RowTooLong { row: self.row });
            }
            self.row += u64::from(!is_blank(line));
        }
        if at > 0 && at == text.len() {
            return Ok(None);
        }
        block.skip(at);
        Ok(Some(block))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::decode::{Decoder, RowRules};

    fn left_of(text: &str, first_row: u64, cuts: &[usize]) -> Result<String, RowTooLong> {
        let mut past = SkipRows::new(first_row, 20);
        let mut left = Vec::new();
        let mut lines = text.split_inclusive('\n').peekable();
        for count in cuts.iter().cycle() {
            let block: String = lines.by_ref().take(*count).collect();
            if let Some(block) = past.push(block.into())? {
                left.extend_from_slice(block.text());
            }
            if lines.peek().is_none() {
                break;
            }
        }
        Ok(String::from_utf8(left).unwrap())
    }

    #[test]
    fn rows_that_were_delivered_before_are_left_out() {
        let text = "\n{\"a\":1}\r\n \t\nbad\n{\"a\":2}";
        for (first_row, expected) in [(0, text), (1, " \t\nbad\n{\"a\":2}"), (2, "{\"a\":2}"), (3, ""), (9, "")] {
            for cuts in [&[1][..], &[2], &[9]] {
                assert_eq!(left_of(text, first_row, cuts).unwrap(), expected, "{first_row} {cuts:?}");
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_one_among_rows_read_past_too() {
        let text = format!("{{}}\n\n{{}}\n{}", "x".repeat(21));
        assert_eq!(left_of(&text, 9, &[2]), Err(RowTooLong { row: 2 }));
        assert_eq!(left_of(&text[..text.len() - 1], 9, &[2]), Ok(String::new()));
    }

    proptest! {
        #[test]
        fn what_is_read_past_is_what_a_decoder_would_have_counted(
            text in "(\\{\\}|x| |\r|\n){0,60}",
            first_row in 0_u64..20,
            cuts in prop::collection::vec(1_usize..5, 1..5),
        ) {
            let decode = |text: &str| {
                Decoder::new(&RowRules::default(), None).rows(&text.into()).unwrap().count()
            };
            let Ok(left) = left_of(&text, first_row, &cuts) else {
                return Ok(());
            };
            prop_assert_eq!(decode(&left), decode(&text).saturating_sub(first_row));
        }
    }
}
