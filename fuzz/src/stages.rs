//! The stages as the checks see them: pieces in, all that comes of them out. The one place that knows how they are called.

use vivadrop::{
    keys::AesKey,
    stage::{
        Damage, PIECE_BYTES,
        decode::{Decoder, RowTooLong, Rows},
        gunzip::Gunzip,
        inflate::Inflate,
        layout::Layout,
        lines::{Block, LineBlocks},
        text::Text,
        window::Window,
    },
};

/// The text that a stage handed on, and how that ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Output<T = ()> {
    pub text: Vec<u8>,
    pub end: Result<T, Damage>,
}

/// Keeps what a stage hands on, in pieces of a bounded size. Of what is in the window some is taken, some is left out.
fn keep(text: &mut Vec<u8>) -> impl FnMut(&mut Window) -> Result<(), Damage> {
    |window| {
        let piece = window.piece();
        assert!((1..=PIECE_BYTES).contains(&piece.len()), "a piece of {} bytes", piece.len());
        text.extend_from_slice(piece);
        let waiting = window.text().len();
        let block = window.take(waiting / 2);
        assert!(text.ends_with(&[block.text(), window.text()].concat()), "what is taken is not what was written");
        if waiting.is_multiple_of(3) {
            window.skip(window.text().len());
        }
        Ok(())
    }
}

/// Inflates; the end is how many bytes the data has, or `None` where it goes on.
pub fn inflate(pieces: &[&[u8]]) -> Output<Option<usize>> {
    let (mut text, mut taken) = (Vec::new(), 0);
    let (mut inflate, mut window) = (Inflate::new(), Window::new());
    let mut push = |mut piece: &[u8]| {
        let length = piece.len();
        let is_end = inflate.push(&mut piece, &mut window, &mut keep(&mut text))?;
        taken += length - piece.len();
        if !is_end {
            assert!(piece.is_empty(), "stopped before the bytes ended, and the data had not");
            return Ok(None);
        }
        let ahead = std::iter::from_fn(|| inflate.byte_behind(&mut &[][..])).count();
        Ok(Some(taken - ahead))
    };
    let end = pieces.iter().map(|piece| push(piece)).find(|end| !matches!(end, Ok(None)));
    Output { end: end.unwrap_or(Ok(None)), text }
}

/// Undoes gzip.
pub fn gunzip(pieces: &[&[u8]]) -> Output {
    let mut text = Vec::new();
    let (mut gunzip, mut window) = (Gunzip::new(), Window::new());
    let end = pieces.iter().try_for_each(|piece| gunzip.push(piece, &mut window, &mut keep(&mut text)));
    Output { end: end.and_then(|()| gunzip.finish()), text }
}

/// Undoes the layers of a file. `None` where they need a key and there is none.
pub fn unlayer(layout: Layout, key: Option<&AesKey>, pieces: &[&[u8]]) -> Option<Output> {
    let (mut text, mut window) = (Vec::new(), Window::new());
    let mut layers = Text::new(layout, key)?;
    let end = pieces.iter().try_for_each(|piece| layers.push(piece, &mut window, &mut keep(&mut text)));
    let end = end.and_then(|()| layers.finish(&mut window, &mut keep(&mut text)));
    Some(Output { end, text })
}

/// Cuts text into blocks of lines with at most `longest` bytes.
pub fn blocks(longest: usize, pieces: &[&[u8]]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut window, mut lines) = (Window::new(), LineBlocks::new(longest));
    let mut keep = |block| {
        blocks.push(block);
        Ok::<_, Damage>(())
    };
    for piece in pieces {
        let pushed = window.write(piece, &mut |window| lines.push(window, &mut keep));
        assert_eq!(pushed, Ok(()), "nothing can fail here");
    }
    blocks.extend(lines.finish(&mut window));
    blocks
}

/// Decodes a block.
pub fn rows(decoder: &Decoder, block: &Block) -> Result<Rows, RowTooLong> {
    decoder.rows(block)
}
