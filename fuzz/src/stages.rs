//! Runs a stage on input that arrives in pieces, and collects its output. Only this module knows how stages are called.

use inflate::{Error, Gunzip, Inflate, PIECE_BYTES, Window};
use vivadrop::{
    keys::AesKey,
    stage::{
        Damage,
        decode::{Decoder, RowTooLong, Rows},
        layers::RemoveLayers,
        layout::Layout,
        lines::{Block, LineBlocks},
    },
};

/// The text that a stage produced, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Output<T, E> {
    pub text: Vec<u8>,
    pub end: Result<T, E>,
}

/// Collects text from a window, and checks what the window promises.
#[derive(Default)]
struct Collector {
    text: Vec<u8>,
    spare: Vec<u8>,
}

impl Collector {
    /// Collects a piece. Takes half of the window's text, and consumes the rest or leaves it there.
    fn collect(&mut self, written: usize, window: &mut Window) {
        assert!((1..=PIECE_BYTES).contains(&written), "a piece of {written} bytes");
        let waiting = window.text().len();
        self.text.extend_from_slice(&window.text()[waiting - written..]);
        let taken = window.take(waiting / 2, &mut self.spare);
        let all = [&self.spare[taken], window.text()].concat();
        assert!(self.text.ends_with(&all), "the window has other text than was appended");
        if waiting.is_multiple_of(3) {
            window.consume(window.text().len());
        }
    }
}

/// Decompresses deflate data. The end is the length of the data, or `None` if the data is not complete.
pub fn inflate(pieces: &[&[u8]]) -> Output<Option<usize>, Error> {
    let mut collector = Collector::default();
    let end = inflate_to(&mut collector, pieces);
    Output { text: collector.text, end }
}

fn inflate_to(collector: &mut Collector, pieces: &[&[u8]]) -> Result<Option<usize>, Error> {
    let (mut inflate, mut window) = (Inflate::new(), Window::new());
    let mut used = 0;
    for piece in pieces {
        let mut input = *piece;
        loop {
            match inflate.push(&mut input, &mut window)? {
                0 => break,
                written => collector.collect(written, &mut window),
            }
        }
        used += piece.len() - input.len();
        if inflate.is_complete() {
            let read_ahead = std::iter::from_fn(|| inflate.byte_after_end(&mut &[][..])).count();
            return Ok(Some(used - read_ahead));
        }
        assert!(input.is_empty(), "stopped before the end of the input, although the data is not complete");
    }
    Ok(None)
}

/// Decompresses gzip.
pub fn gunzip(pieces: &[&[u8]]) -> Output<(), Error> {
    let mut collector = Collector::default();
    let end = gunzip_to(&mut collector, pieces);
    Output { text: collector.text, end }
}

fn gunzip_to(collector: &mut Collector, pieces: &[&[u8]]) -> Result<(), Error> {
    let (mut gunzip, mut window) = (Gunzip::new(), Window::new());
    for mut input in pieces.iter().copied() {
        loop {
            match gunzip.push(&mut input, &mut window)? {
                0 => break,
                written => collector.collect(written, &mut window),
            }
        }
        assert!(input.is_empty(), "stopped before the end of the input");
    }
    gunzip.finish()
}

/// Removes the layers of a file. Returns `None` if the layout is encrypted and there is no key.
pub fn remove_layers(layout: Layout, key: Option<&AesKey>, pieces: &[&[u8]]) -> Option<Output<(), Damage>> {
    let mut collector = Collector::default();
    let end = remove_layers_to(&mut collector, RemoveLayers::new(layout, key)?, pieces);
    Some(Output { text: collector.text, end })
}

fn remove_layers_to(collector: &mut Collector, mut layers: RemoveLayers, pieces: &[&[u8]]) -> Result<(), Damage> {
    let mut window = Window::new();
    for mut input in pieces.iter().copied() {
        loop {
            match layers.push(&mut input, &mut window)? {
                0 => break,
                written => collector.collect(written, &mut window),
            }
        }
        assert!(input.is_empty(), "stopped before the end of the input");
    }
    loop {
        match layers.finish(&mut window)? {
            0 => return Ok(()),
            written => collector.collect(written, &mut window),
        }
    }
}

/// Splits text into blocks of lines with at most `max_line_bytes`.
pub fn blocks(max_line_bytes: usize, pieces: &[&[u8]]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = LineBlocks::new(max_line_bytes);
    for mut piece in pieces.iter().copied() {
        while lines.window().write(&mut piece) > 0 {
            while let Some(block) = lines.next_block() {
                blocks.push(block);
            }
        }
    }
    blocks.extend(lines.finish());
    blocks
}

/// Decodes a block.
pub fn rows(decoder: &Decoder, block: &Block) -> Result<Rows, RowTooLong> {
    decoder.rows(block)
}
