//! Rows cut into batches. Knows numbers and sizes of rows, and nothing of what they say or where they go.

use std::num::NonZeroUsize;

use super::decode::Rows;
use crate::message::BadRow;

/// Where a batch ends: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most rows of a batch, bad ones counted.
    pub rows: NonZeroUsize,
    /// The most bytes of row text in a batch; a single row may have more.
    pub bytes: NonZeroUsize,
}

/// Consecutive rows of one file: the unit of delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of its first row.
    pub first_row: u64,
    /// The number behind its last row.
    pub end_row: u64,
    /// The JSON text of its good rows, joined by commas.
    pub text: Vec<u8>,
    /// Its bad rows.
    pub bad_rows: Vec<BadRow>,
}

impl Batch {
    fn begin(row: u64) -> Self {
        Self { first_row: row, end_row: row, ..Self::default() }
    }

    /// How many of its rows are good.
    pub fn good_rows(&self) -> u64 {
        self.end_row - self.first_row - self.bad_rows.len() as u64
    }
}

/// Cuts rows into batches. The same rows are cut the same way whatever blocks they arrive in.
pub struct Batches {
    limits: BatchLimits,
    batch: Batch,
}

impl Batches {
    /// Begins with the row `first_row`.
    pub fn new(limits: BatchLimits, first_row: u64) -> Self {
        Self { limits, batch: Batch::begin(first_row) }
    }

    /// Takes the rows of the next block; returns the batches that they complete.
    pub fn push(&mut self, rows: &Rows) -> Vec<Batch> {
        let mut done = Vec::new();
        let mut bad = rows.bad.iter().peekable();
        let mut start = 0;
        let mut ends = rows.ends.iter();
        for number in 0..rows.count() {
            if let Some((_, reason)) = bad.next_if(|(row, _)| *row == number) {
                let row = self.batch.end_row;
                self.batch.bad_rows.push(BadRow { row, reason: reason.to_string() });
            } else if let Some(&end) = ends.next() {
                let row = &rows.text[start..end - 1];
                start = end;
                if !self.batch.text.is_empty() {
                    if self.batch.text.len() + 1 + row.len() > self.limits.bytes.get() {
                        done.push(self.cut());
                    } else {
                        self.batch.text.push(b',');
                    }
                }
                self.batch.text.extend_from_slice(row);
            }
            self.batch.end_row += 1;
            if self.batch.end_row - self.batch.first_row >= self.limits.rows.get() as u64 {
                done.push(self.cut());
            }
        }
        done
    }

    /// The number behind the last row taken.
    pub fn end_row(&self) -> u64 {
        self.batch.end_row
    }

    /// Ends the file; returns the last batch, if there are rows left.
    pub fn finish(self) -> Option<Batch> {
        (self.batch.end_row > self.batch.first_row).then_some(self.batch)
    }

    fn cut(&mut self) -> Batch {
        let next = Batch::begin(self.batch.end_row);
        std::mem::replace(&mut self.batch, next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::decode::BadRowReason;

    fn limits(rows: usize, bytes: usize) -> BatchLimits {
        BatchLimits { rows: NonZeroUsize::new(rows).unwrap(), bytes: NonZeroUsize::new(bytes).unwrap() }
    }

    /// Rows from their texts; `!` is a bad one.
    fn rows(texts: &[&str]) -> Rows {
        let mut rows = Rows::default();
        for text in texts {
            if *text == "!" {
                rows.bad.push((rows.count(), BadRowReason::NotAnObject));
            } else {
                rows.text.extend_from_slice(text.as_bytes());
                rows.text.push(b'\n');
                rows.ends.push(rows.text.len());
            }
        }
        rows
    }

    fn cut(limits: BatchLimits, blocks: &[Rows]) -> Vec<(u64, u64, String, Vec<u64>)> {
        let mut batches = Batches::new(limits, 0);
        let mut done: Vec<_> = blocks.iter().flat_map(|rows| batches.push(rows)).collect();
        done.extend(batches.finish());
        let bad = |batch: &Batch| batch.bad_rows.iter().map(|bad| bad.row).collect();
        done.iter().map(|b| (b.first_row, b.end_row, String::from_utf8(b.text.clone()).unwrap(), bad(b))).collect()
    }

    #[test]
    fn a_batch_ends_at_its_number_of_rows_bad_ones_counted() {
        let batches = cut(limits(2, 1000), &[rows(&["{}", "!", "{}"]), rows(&["!", "!"])]);
        assert_eq!(batches, [(0, 2, "{}".into(), vec![1]), (2, 4, "{}".into(), vec![3]), (4, 5, "".into(), vec![4])]);
    }

    #[test]
    fn a_batch_ends_before_a_row_that_does_not_fit() {
        let batches = cut(limits(10, 5), &[rows(&["{}", "{}", "{}"])]);
        assert_eq!(batches, [(0, 2, "{},{}".into(), vec![]), (2, 3, "{}".into(), vec![])]);
    }

    #[test]
    fn a_row_larger_than_a_batch_is_one_of_its_own() {
        let batches = cut(limits(10, 3), &[rows(&["{}", "{\"a\":1}", "{}"])]);
        assert_eq!(batches.iter().map(|b| (b.0, b.1)).collect::<Vec<_>>(), [(0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn no_rows_are_no_batch() {
        assert!(cut(limits(1, 1), &[rows(&[])]).is_empty());
    }

    proptest! {
        #[test]
        fn the_blocks_that_rows_arrive_in_change_nothing(
            texts in prop::collection::vec(prop_oneof![Just("!"), Just("{}"), Just(r#"{"a":1}"#)], 0..60),
            cuts in prop::collection::vec(1_usize..9, 1..20),
            rows_limit in 1_usize..7,
            bytes_limit in 1_usize..30,
        ) {
            let limits = limits(rows_limit, bytes_limit);
            let mut rest = texts.as_slice();
            let mut blocks = Vec::new();
            for count in cuts.iter().cycle() {
                let (block, behind) = rest.split_at((*count).min(rest.len()));
                blocks.push(rows(block));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let batches = cut(limits, &blocks);
            prop_assert_eq!(&batches, &cut(limits, &[rows(&texts)]));
            prop_assert!(batches.windows(2).all(|pair| pair[0].1 == pair[1].0));
        }
    }
}
