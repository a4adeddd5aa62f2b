//! Makes rows on all cores, a block at a time, and hands them on in order.
//!
//! Knows neither what rows look like nor where they go.

use std::{io, num::NonZeroUsize, ops::Range, sync::mpsc::sync_channel, thread};

use super::{LayoutName, pack::Piece, rows::Rows};

/// How many rows are made at once: about 1 MB of text.
const BLOCK_ROWS: u64 = 1_000;

/// How many blocks of each thread wait for being written; another one is being made.
const BLOCKS_WAITING: usize = 1;

/// Some rows, ready to be written.
pub(super) struct Block {
    /// How many there are.
    pub(super) rows: u64,
    /// The size of their text.
    pub(super) text_bytes: u64,
    /// The text, encoded as far as it can be by itself.
    pub(super) piece: io::Result<Piece>,
}

impl Block {
    fn new(rows: &Rows, range: Range<u64>, layout: LayoutName) -> Self {
        let count = range.end - range.start;
        let text = rows.text(range);
        Self { rows: count, text_bytes: text.len() as u64, piece: Piece::of(text, layout) }
    }
}

/// Makes the rows of `range` on all cores, and hands them to `write` in order.
pub(super) fn each(
    rows: &Rows,
    range: Range<u64>,
    layout: LayoutName,
    write: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<()> {
    let blocks = || {
        let end = range.end;
        let begins = (range.start..end).step_by(BLOCK_ROWS as usize);
        begins.map(move |begin| begin..end.min(begin.saturating_add(BLOCK_ROWS)))
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let made: Vec<_> = (0..threads)
            .map(|thread| {
                let (sender, made) = sync_channel(BLOCKS_WAITING);
                let mut blocks = blocks().skip(thread).step_by(threads);
                // A failed write drops `made`: sending fails then, and no more rows are made.
                scope.spawn(move || blocks.try_for_each(|block| sender.send(Block::new(rows, block, layout))));
                made
            })
            .collect();
        // Each thread makes every n-th block: one from each in turn are all of them, in order.
        made.iter().cycle().map_while(|made| made.recv().ok()).try_for_each(write)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{SimulateOptions, metadata::Period, secrets::DropKeys};

    fn rows() -> Rows {
        let options = SimulateOptions { seed: Some(1), ..SimulateOptions::default() };
        Rows::new(&options, &Period::of(13, true).unwrap(), &DropKeys::random())
    }

    #[test]
    fn blocks_come_in_order_and_miss_no_row() {
        let (rows, mut counts, mut bytes) = (rows(), Vec::new(), 0);
        each(&rows, 500..4_321, LayoutName::Plain, |block| {
            counts.push(block.rows);
            bytes += block.text_bytes;
            Ok(())
        })
        .unwrap();
        assert_eq!(counts, [1_000, 1_000, 1_000, 821]);
        assert_eq!(bytes, rows.text(500..4_321).len() as u64);
    }

    #[test]
    fn a_failed_write_ends_the_inventing_of_rows() {
        let failed = each(&rows(), 0..u64::MAX, LayoutName::Plain, |_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
