//! Detects the cipher of a file's encrypted columns from the first values in its text.
//!
//! A single value proves little: one of 1.5 million ciphertexts of one block in counter mode also has the padding of
//! CBC and decrypts to text with it. So one cipher is chosen for the whole file. The sample depends only on the start
//! of the text, not on how the text was cut into blocks, so every run of a file chooses the same cipher.

use std::borrow::Cow;

use super::{
    column::{ColumnKey, Scratch, is_guid},
    names::{Names, Next},
};
use crate::{
    json::scanner as json,
    stage::{
        decrypt::Cipher,
        lines::{BLOCK_BYTES, Block, is_blank},
    },
};

/// The maximum number of values in the sample.
const SAMPLE_VALUES: usize = 64;

/// The sample consists of values in lines that begin in this much text. The first block of a file has all these lines.
const SAMPLE_BYTES: usize = BLOCK_BYTES;

/// The cipher that decrypts the most values of the sample; CBC if both decrypt the same number, because valid padding
/// is stronger evidence than valid UTF-8. `None` if no value of the sample decrypts to text, or the sample is empty.
pub(super) fn column_cipher<'a>(
    first: &'a Block,
    mut names: Names<'a>,
    key: &ColumnKey,
    max_row_bytes: usize,
) -> Option<Cipher> {
    let (mut cbc, mut ctr) = (0, 0);
    let mut scratch = Scratch::default();
    let values = first
        .lines_beginning_in(SAMPLE_BYTES)
        .take_while(|line| line.len() <= max_row_bytes)
        .filter(|line| !is_blank(line) && std::str::from_utf8(line).is_ok())
        .filter_map(|line| encrypted_values(json::trimmed(line), &mut names))
        .flatten();
    for value in values.take(SAMPLE_VALUES) {
        let fits = key.fits(&value, &mut scratch);
        cbc += u32::from(fits.cbc);
        ctr += u32::from(fits.ctr);
    }
    match (cbc, ctr) {
        (0, 0) => None,
        _ if ctr > cbc => Some(Cipher::Ctr),
        _ => Some(Cipher::Cbc),
    }
}

/// The strings of a row that are to be decrypted. `None` if the line is not a JSON object.
fn encrypted_values<'a>(line: &'a [u8], names: &mut Names<'a>) -> Option<Vec<Cow<'a, [u8]>>> {
    let mut values = Vec::new();
    let mut next = names.begin(line)?;
    while let Next::Value { at, column } = next {
        let end = if line.get(at) == Some(&b'"') {
            let (end, has_escapes) = json::string_end(line, at + 1)?;
            if column.treatment.is_encrypted {
                values.extend(json::unescaped(&line[at..end], has_escapes).filter(|text| !is_guid(text)));
            }
            end
        } else {
            json::value_end(line, at, usize::MAX).ok()?
        };
        next = names.next(line, end)?;
    }
    matches!(next, Next::End { at } if at == line.len()).then_some(values)
}
