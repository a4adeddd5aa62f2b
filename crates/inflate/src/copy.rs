//! Copies text from a distance back (RFC 1951, section 3.2.3).

use crate::Error;

/// How many bytes are copied at once. Nine of ten copies in rows are not longer. Copying 48 bytes of which fewer count
/// costs less than a branch on the length that is hard to predict.
pub(crate) const COPY_BYTES: usize = 48;

/// Copies `length` bytes from `distance` bytes before `out` to `out`. Overwrites up to [`COPY_BYTES`] bytes after them.
#[inline(always)]
pub(crate) fn copy_back(text: &mut [u8], out: usize, distance: usize, length: usize) -> Result<(), Error> {
    let from = out.checked_sub(distance).ok_or(Error::Deflate)?;
    if distance < COPY_BYTES {
        copy_overlapping(text, from, out, length);
        return Ok(());
    }
    text.copy_within(from..from + COPY_BYTES, out);
    if length > COPY_BYTES {
        let mut done = COPY_BYTES;
        while done < length {
            text.copy_within(from + done..from + done + COPY_BYTES, out + done);
            done += COPY_BYTES;
        }
    }
    Ok(())
}

/// Copies from so close that the copy may contain bytes that it has written itself: a repeated pattern.
#[cold]
fn copy_overlapping(text: &mut [u8], from: usize, out: usize, length: usize) {
    const STEP: usize = 16;
    let distance = out - from;
    if distance == 1 {
        let byte = text[from];
        text[out..out + length].fill(byte);
        return;
    }
    // Each step depends only on bytes that the steps before it have completed.
    for done in (0..length).step_by(distance.min(STEP)) {
        text.copy_within(from + done..from + done + STEP, out + done);
    }
}
