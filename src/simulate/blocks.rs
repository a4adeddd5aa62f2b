//! Generates rows on all cores, block by block, and passes the blocks on in order.

use std::{io, num::NonZeroUsize, ops::Range, sync::mpsc::sync_channel, thread};

use super::{LayoutName, data_file::Piece, rows::Rows};

/// The number of rows in a block: about 1 MB of text.
const BLOCK_ROWS: u64 = 1_000;

/// The number of finished blocks that each thread may buffer, in addition to the one that it works on.
const BUFFERED_BLOCKS: usize = 1;

/// Consecutive rows, ready to be written.
pub(super) struct Block {
    /// The number of rows.
    pub(super) rows: u64,
    /// The size of their text, in bytes.
    pub(super) text_bytes: u64,
    /// Their text, encoded.
    pub(super) piece: io::Result<Piece>,
}

impl Block {
    fn new(rows: &Rows, range: Range<u64>, layout: LayoutName) -> Self {
        let count = range.end - range.start;
        let text = rows.text(range);
        Self { rows: count, text_bytes: text.len() as u64, piece: Piece::encode(text, layout) }
    }
}

/// Generates the rows of `range` on all cores, and calls `write` with the blocks in order.
pub(super) fn for_each_block(
    rows: &Rows,
    range: Range<u64>,
    layout: LayoutName,
    write: impl FnMut(Block) -> io::Result<()>,
) -> io::Result<()> {
    let blocks = || {
        let end = range.end;
        let starts = (range.start..end).step_by(BLOCK_ROWS as usize);
        starts.map(move |start| start..end.min(start.saturating_add(BLOCK_ROWS)))
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let receivers: Vec<_> = (0..threads)
            .map(|thread| {
                let (sender, receiver) = sync_channel(BUFFERED_BLOCKS);
                let mut blocks = blocks().skip(thread).step_by(threads);
                // If a write fails, the receivers are dropped; then `send` fails and the thread ends.
                scope.spawn(move || blocks.try_for_each(|block| sender.send(Block::new(rows, block, layout))));
                receiver
            })
            .collect();
        // Each of n threads generates every n-th block, so taking one block from each in turn gives all blocks in
        // order.
        receivers.iter().cycle().map_while(|receiver| receiver.recv().ok()).try_for_each(write)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{SimulateOptions, period::Period, secrets::DropKeys};

    fn rows() -> Rows {
        let options = SimulateOptions { seed: Some(1), ..SimulateOptions::default() };
        Rows::new(&options, &Period::of(13, true).unwrap(), &DropKeys::random())
    }

    #[test]
    fn blocks_are_in_order_and_contain_every_row() {
        let (rows, mut counts, mut bytes) = (rows(), Vec::new(), 0);
        for_each_block(&rows, 500..4_321, LayoutName::Plain, |block| {
            counts.push(block.rows);
            bytes += block.text_bytes;
            Ok(())
        })
        .unwrap();
        assert_eq!(counts, [1_000, 1_000, 1_000, 821]);
        assert_eq!(bytes, rows.text(500..4_321).len() as u64);
    }

    #[test]
    fn a_failed_write_stops_the_generation_of_rows() {
        let failed =
            for_each_block(&rows(), 0..u64::MAX, LayoutName::Plain, |_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
