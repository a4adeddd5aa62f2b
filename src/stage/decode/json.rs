//! JSON checked to the letter (RFC 8259) without making anything of it: each function says where a piece of it ends.
//!
//! Nothing here recurses, whatever the nesting. That the bytes are UTF-8 is for the caller to know.

use std::borrow::Cow;

/// Where a string ends, behind its quote, and whether it has escapes. `from` is behind the quote that opens it.
pub(in crate::stage) fn string(json: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = from;
    let mut has_escapes = false;
    loop {
        at = plain(json, at);
        match json.get(at)? {
            b'"' => return Some((at + 1, has_escapes)),
            b'\\' => {
                has_escapes = true;
                at = escape(json, at + 1)?;
            }
            _control => return None,
        }
    }
}

/// What a string says, from quote to quote, or `None` when it is no text: an escape can be half of a character
/// (`\ud800` alone).
pub(in crate::stage) fn text(string: &[u8], has_escapes: bool) -> Option<Cow<'_, [u8]>> {
    if has_escapes {
        return serde_json::from_slice::<String>(string).ok().map(|text| text.into_bytes().into());
    }
    Some(string.strip_prefix(b"\"")?.strip_suffix(b"\"")?.into())
}

/// Where a number ends, if there is one (section 6).
pub(in crate::stage) fn number(json: &[u8], from: usize) -> Option<usize> {
    let start = from + usize::from(json.get(from)? == &b'-');
    let (point, end) = decimal(json, start);
    let has_leading_zero = json.get(start) == Some(&b'0') && point > start + 1;
    // Digits before the point and behind it.
    if point == start || has_leading_zero || end == point + 1 {
        return None;
    }
    if !matches!(json.get(end), Some(b'e' | b'E')) {
        return Some(end);
    }
    let digits_from = end + 1 + usize::from(matches!(json.get(end + 1), Some(b'+' | b'-')));
    let end = digits(json, digits_from);
    (end > digits_from).then_some(end)
}

/// Where the digits from `from` on end, and where those end behind a point, if one follows.
fn decimal(json: &[u8], from: usize) -> (usize, usize) {
    // Both are in one window nearly always. A loop over digits ends where no processor foresees it.
    if let Some(window) = window(json, from) {
        let ends = ends(window, not_digits);
        let point = first(ends);
        if window.get(point) == Some(&b'.') {
            let end = first(ends & (ends - 1));
            return (from + point, if end < WINDOW { from + end } else { digits(json, from + WINDOW) });
        }
    }
    let point = digits(json, from);
    (point, if json.get(point) == Some(&b'.') { digits(json, point + 1) } else { point })
}

/// Where any value ends that is no string.
pub(in crate::stage) fn value(json: &[u8], from: usize) -> Option<usize> {
    match json.get(from)? {
        b'{' | b'[' => nested(json, from),
        b't' => word(json, from, b"true"),
        b'f' => word(json, from, b"false"),
        b'n' => word(json, from, b"null"),
        _ => number(json, from),
    }
}

/// `json` without the whitespace around it.
pub(in crate::stage) fn trimmed(json: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let end = json.iter().rposition(|byte| !is_space(byte)).map_or(0, |last| last + 1);
    &json[space(json, 0).min(end)..end]
}

/// Where whitespace ends.
pub(in crate::stage) fn space(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = json.get(at) {
        at += 1;
    }
    at
}

/// The name that begins at `from`, if one does.
pub(in crate::stage) fn name(json: &[u8], from: usize) -> Option<Name> {
    let (end, has_escapes) = string(json, behind(json, from, b'"')?)?;
    let value = space(json, behind(json, space(json, end), b':')?);
    Some(Name { end, has_escapes, value })
}

/// Where a name and what is behind it are.
pub(in crate::stage) struct Name {
    /// Behind its last quote.
    pub(in crate::stage) end: usize,
    pub(in crate::stage) has_escapes: bool,
    /// Where its value begins.
    pub(in crate::stage) value: usize,
}

/// Where an object or an array ends, or a value that is none of them.
fn nested(json: &[u8], from: usize) -> Option<usize> {
    // The brackets that are to come.
    let mut open = Vec::new();
    let mut at = from;
    loop {
        at = match json.get(at)? {
            bracket @ (b'{' | b'[') => {
                // In ASCII a bracket is closed by the one after next.
                let closing = bracket + 2;
                at = space(json, at + 1);
                if json.get(at) != Some(&closing) {
                    open.push(closing);
                    at = element(json, at, closing)?;
                    continue;
                }
                at + 1
            }
            b'"' => string(json, at + 1)?.0,
            _ => value(json, at)?,
        };
        loop {
            let Some(&closing) = open.last() else { return Some(at) };
            at = space(json, at);
            if json.get(at) != Some(&closing) {
                at = element(json, space(json, behind(json, at, b',')?), closing)?;
                break;
            }
            open.pop();
            at += 1;
        }
    }
}

/// Where the next value begins of what ends in `closing`: behind its name, in an object.
fn element(json: &[u8], from: usize, closing: u8) -> Option<usize> {
    if closing == b'}' { Some(name(json, from)?.value) } else { Some(from) }
}

/// The place behind `byte`, if it is there.
pub(in crate::stage) fn behind(json: &[u8], at: usize, byte: u8) -> Option<usize> {
    (json.get(at) == Some(&byte)).then_some(at + 1)
}

fn word(json: &[u8], from: usize, word: &[u8]) -> Option<usize> {
    json.get(from..)?.starts_with(word).then_some(from + word.len())
}

/// Where an escape ends. `from` is behind its backslash.
fn escape(json: &[u8], from: usize) -> Option<usize> {
    match json.get(from)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(from + 1),
        b'u' => json.get(from + 1..from + 5)?.iter().all(u8::is_ascii_hexdigit).then_some(from + 5),
        _ => None,
    }
}

/// Where digits end.
fn digits(json: &[u8], from: usize) -> usize {
    run(json, from, not_digits)
}

/// Where the bytes of a string end that stand for themselves: at a quote, a backslash or a control character.
pub(in crate::stage) fn plain(json: &[u8], from: usize) -> usize {
    run(json, from, not_plain)
}

/// How many bytes are looked at together.
const WINDOW: usize = 16;

fn window(json: &[u8], at: usize) -> Option<&[u8; WINDOW]> {
    json.get(at..)?.first_chunk()
}

/// Where a run of bytes ends. `marks` marks those that are not in it.
fn run(json: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(window) = window(json, at) {
        let length = first(ends(window, &marks));
        at += length;
        if length < WINDOW {
            return at;
        }
    }
    let is_in_run = |byte: &u8| marks(u64::from(*byte)) & 0x80 == 0;
    at + json.get(at..).map_or(0, |rest| rest.iter().take_while(|byte| is_in_run(byte)).count())
}

/// The marks of both halves of a window, the highest bit of each byte.
fn ends(window: &[u8; WINDOW], marks: impl Fn(u64) -> u64) -> u128 {
    let [low, high] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&window[at..at + 8]);
        marks(u64::from_le_bytes(half)) & each(0x80)
    });
    u128::from(high) << 64 | u128::from(low)
}

/// Which byte is the first with a mark.
fn first(marks: u128) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Every byte of a word set to `byte`.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Sets the highest bit of every byte that is no digit.
fn not_digits(word: u64) -> u64 {
    let digits = word ^ each(b'0');
    // Anything above 9 gets its highest bit, or has it.
    ((digits & each(0x7F)) + each(0x80 - 10)) | digits
}

/// Sets the highest bit of the first byte that is a quote, a backslash or a control character; of those behind it no
/// more than of the others is promised, since what is subtracted may be borrowed from them.
fn not_plain(word: u64) -> u64 {
    let is_zero = |word: u64| word.wrapping_sub(each(1)) & !word;
    let is_control = word.wrapping_sub(each(b' ')) & !word;
    is_zero(word ^ each(b'"')) | is_zero(word ^ each(b'\\')) | is_control
}
