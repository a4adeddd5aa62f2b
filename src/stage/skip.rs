//! Skips the rows that an earlier run has delivered, without decoding them. They have to be read again, because gzip
//! cannot be decompressed from the middle.

use memchr::memchr;

use super::{
    decode::RowTooLong,
    lines::{Block, is_blank},
};

/// Removes the first rows of a text.
pub struct SkipRows {
    first_row: u64,
    /// The number of the next row.
    row: u64,
    max_line_bytes: usize,
}

impl SkipRows {
    /// Skips the rows before `first_row` of a text whose lines have at most `max_line_bytes`, line ends not counted.
    pub fn new(first_row: u64, max_line_bytes: usize) -> Self {
        Self { first_row, row: 0, max_line_bytes }
    }

    /// Skips rows of the next block; returns the rest of the block, if there is any.
    ///
    /// A line that is too long is an error here, as it is for the decoder, because the text after it was not read.
    pub fn push(&mut self, mut block: Block) -> Result<Option<Block>, RowTooLong> {
        let text = block.text();
        let mut at = 0;
        while self.row < self.first_row && at < text.len() {
            let rest = &text[at..];
            let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
            at = (at + line.len() + 1).min(text.len());
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > self.max_line_bytes {
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

    /// Ends the text. Returns an error if the text has fewer rows than were to be skipped.
    pub fn finish(&self) -> Result<(), TooFewRows> {
        if self.row < self.first_row { Err(TooFewRows { rows: self.row }) } else { Ok(()) }
    }
}

/// The text has fewer rows than were to be skipped.
#[derive(Debug, PartialEq, Eq)]
pub struct TooFewRows {
    /// The number of rows of the text.
    pub rows: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::decode::{Decoder, RowRules};

    /// The text that is left of `text`, which is cut into blocks with these numbers of lines.
    fn rest_of(text: &str, first_row: u64, line_counts: &[usize]) -> Result<String, RowTooLong> {
        let mut skip = SkipRows::new(first_row, 20);
        let mut rest = Vec::new();
        let mut lines = text.split_inclusive('\n').peekable();
        for count in line_counts.iter().cycle() {
            let block: String = lines.by_ref().take(*count).collect();
            if let Some(block) = skip.push(block.into())? {
                rest.extend_from_slice(block.text());
            }
            if lines.peek().is_none() {
                break;
            }
        }
        Ok(String::from_utf8(rest).unwrap())
    }

    #[test]
    fn rows_before_the_first_row_are_skipped() {
        let text = "\n{\"a\":1}\r\n \t\nbad\n{\"a\":2}";
        for (first_row, expected) in [(0, text), (1, " \t\nbad\n{\"a\":2}"), (2, "{\"a\":2}"), (3, ""), (9, "")] {
            for line_counts in [&[1][..], &[2], &[9]] {
                assert_eq!(
                    rest_of(text, first_row, line_counts).unwrap(),
                    expected,
                    "from row {first_row}, {line_counts:?}"
                );
            }
        }
    }

    #[test]
    fn a_text_without_all_the_rows_to_skip_is_an_error() {
        for (first_row, expected) in [(0, Ok(())), (2, Ok(())), (3, Err(TooFewRows { rows: 2 }))] {
            let mut skip = SkipRows::new(first_row, 20);
            skip.push("{}\n \n{}".into()).unwrap();
            assert_eq!(skip.finish(), expected, "from row {first_row}");
        }
    }

    #[test]
    fn a_skipped_line_that_is_too_long_is_an_error() {
        let text = format!("{{}}\n\n{{}}\n{}", "x".repeat(21));
        assert_eq!(rest_of(&text, 9, &[2]), Err(RowTooLong { row: 2 }));
        assert_eq!(rest_of(&text[..text.len() - 1], 9, &[2]), Ok(String::new()));
    }

    proptest! {
        #[test]
        fn rows_are_counted_as_the_decoder_counts_them(
            text in "(\\{\\}|x| |\r|\n){0,60}",
            first_row in 0_u64..20,
            line_counts in prop::collection::vec(1_usize..5, 1..5),
        ) {
            let decode = |text: &str| {
                Decoder::new(&RowRules::default(), None).rows(&text.into()).unwrap().count()
            };
            let Ok(rest) = rest_of(&text, first_row, &line_counts) else {
                return Ok(());
            };
            prop_assert_eq!(decode(&rest), decode(&text).saturating_sub(first_row));
        }
    }
}
