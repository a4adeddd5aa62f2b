//! The thread that turns the bytes of one file into blocks of lines: it decrypts, inflates and cuts.

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::{FileRules, RowsError, crew::Unwanted};
use crate::{
    keys::AesKey,
    stage::{
        Damage,
        decode::RowTooLong,
        layout::{self, HEAD_BYTES, LayoutError},
        lines::{Block, LineBlocks},
        past::ReadPast,
        text::Text,
        window::Window,
    },
    store::{ByteStream, StoreError},
};

/// What the thread is sent: bytes, an error, or `None` at the end of the file. A channel that closes without a `None` says
/// that the file is not wanted any more: that must never look like a shorter file.
pub(super) type Chunk = Option<Result<Bytes, StoreError>>;

/// Sends the thread what comes from the store.
pub(super) async fn forward(mut bytes: ByteStream, to: mpsc::Sender<Chunk>) {
    while let Some(chunk) = bytes.next().await {
        if to.send(Some(chunk)).await.is_err() {
            return;
        }
    }
    // Where nobody listens any more, nobody needs to know.
    let _nobody_listens = to.send(None).await;
}

/// What the thread has of its file.
pub(super) struct Unpacking {
    bytes: mpsc::Receiver<Chunk>,
    /// How many bytes were taken.
    at: u64,
    is_at_end: bool,
    /// The first row that is wanted.
    first_row: u64,
}

/// Why the thread ends before the file does.
pub(super) enum Stop {
    Failed(RowsError),
    /// The rows are not wanted any more.
    NobodyListens,
    Damaged(Damage),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<Unwanted> for Stop {
    fn from(_: Unwanted) -> Self {
        Self::NobodyListens
    }
}

impl Unpacking {
    pub(super) fn new(bytes: mpsc::Receiver<Chunk>, first_row: u64) -> Self {
        Self { bytes, at: 0, is_at_end: false, first_row }
    }

    /// Hands on the blocks from the line of the first row on that is wanted. It is asked with `None` whether anybody still
    /// wants them, while there are none.
    pub(super) fn run(
        &mut self,
        key: Option<&AesKey>,
        rules: &FileRules,
        next: &mut dyn FnMut(Option<Block>) -> Result<(), Unwanted>,
    ) -> Result<(), Stop> {
        self.unpack(key, rules, next).map_err(|stop| match stop {
            Stop::Damaged(source) => Stop::Failed(RowsError::Damaged { at: self.at, source }),
            other => other,
        })
    }

    fn unpack(
        &mut self,
        key: Option<&AesKey>,
        rules: &FileRules,
        next: &mut dyn FnMut(Option<Block>) -> Result<(), Unwanted>,
    ) -> Result<(), Stop> {
        let (head, is_whole) = self.head()?;
        let failed = |error: LayoutError| Stop::Failed(error.into());
        let layout = layout::detect(&head, is_whole, key, &rules.layout).map_err(failed)?;
        let mut text = Text::new(layout, key).ok_or(LayoutError::NoKey).map_err(failed)?;
        let longest = rules.rows.longest_row;
        let (mut window, mut lines) = (Window::new(), LineBlocks::new(longest));
        let mut past = ReadPast::new(self.first_row, longest);
        let mut send = |block| {
            let too_long = |RowTooLong { row }| Stop::Failed(RowsError::RowTooLong { row, longest });
            Ok::<_, Stop>(next(past.push(block).map_err(too_long)?)?)
        };
        text.push(&head, &mut window, &mut |window| lines.push(window, &mut send))?;
        while let Some(bytes) = self.next()? {
            text.push(&bytes, &mut window, &mut |window| lines.push(window, &mut send))?;
        }
        text.finish(&mut window, &mut |window| lines.push(window, &mut send))?;
        lines.finish(&mut window).map_or(Ok(()), send)
    }

    /// The first bytes of the file: all that detection looks at, and whether there are no more.
    fn head(&mut self) -> Result<(Vec<u8>, bool), Stop> {
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES {
            match self.next()? {
                Some(bytes) => head.extend_from_slice(&bytes),
                None => return Ok((head, true)),
            }
        }
        Ok((head, false))
    }

    fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        if self.is_at_end {
            return Ok(None);
        }
        let Some(bytes) = self.bytes.blocking_recv().ok_or(Stop::NobodyListens)? else {
            self.is_at_end = true;
            return Ok(None);
        };
        let bytes = bytes.map_err(|source| Stop::Failed(RowsError::Read { at: self.at, source }))?;
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }
}
