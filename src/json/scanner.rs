//! A JSON scanner (RFC 8259): each function checks one piece of JSON and returns where it ends, without building any
//! value.
//!
//! Nothing here recurses, however deep the nesting. The caller guarantees that the bytes are UTF-8. `None` means that
//! the JSON is invalid; [`Invalid`] distinguishes invalid JSON from JSON that the parsers of receivers reject.

use std::borrow::Cow;

/// The length limit of a number, in characters. Python's parser fails from 4,300 digits on, others before that.
pub(crate) const MAX_NUMBER_CHARS: usize = 1_000;

/// Why a value is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// The JSON is invalid.
    Json,
    /// The value is nested deeper than the limit.
    TooDeep,
    /// A number has more than [`MAX_NUMBER_CHARS`].
    LongNumber,
}

/// The end of a string (after its closing quote), and whether the string has escapes. `from` is after the opening
/// quote.
pub(crate) fn string_end(json: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = from;
    let mut has_escapes = false;
    loop {
        at = plain_end(json, at);
        match json.get(at)? {
            b'"' => return Some((at + 1, has_escapes)),
            b'\\' => {
                has_escapes = true;
                at = escape_end(json, at + 1)?;
            }
            _control => return None,
        }
    }
}

/// The content of `string`, which includes its quotes, with escapes undone. `None` if the content is not text: an
/// escape can be half of a surrogate pair (`\ud800` alone).
pub(crate) fn unescaped(string: &[u8], has_escapes: bool) -> Option<Cow<'_, [u8]>> {
    if has_escapes {
        return serde_json::from_slice::<String>(string).ok().map(|text| text.into_bytes().into());
    }
    Some(string.strip_prefix(b"\"")?.strip_suffix(b"\"")?.into())
}

/// The end of a number (section 6).
pub(crate) fn number_end(json: &[u8], from: usize) -> Option<usize> {
    let start = from + usize::from(json.get(from)? == &b'-');
    let (point, end) = decimal_end(json, start);
    let has_leading_zero = json.get(start) == Some(&b'0') && point > start + 1;
    // There must be digits before the point and after it.
    if point == start || has_leading_zero || end == point + 1 {
        return None;
    }
    if !matches!(json.get(end), Some(b'e' | b'E')) {
        return Some(end);
    }
    let digits_from = end + 1 + usize::from(matches!(json.get(end + 1), Some(b'+' | b'-')));
    let end = digits_end(json, digits_from);
    (end > digits_from).then_some(end)
}

/// The end of the digits from `from` on, and the end of the fraction, if a point follows those digits.
fn decimal_end(json: &[u8], from: usize) -> (usize, usize) {
    // Most numbers fit into one window. A loop over digits would end unpredictably for the processor.
    if let Some(window) = window(json, from) {
        let marks = marks(window, not_digits);
        let point = first(marks);
        if window.get(point) == Some(&b'.') {
            let end = first(marks & (marks - 1));
            return (from + point, if end < WINDOW { from + end } else { digits_end(json, from + WINDOW) });
        }
    }
    let point = digits_end(json, from);
    (point, if json.get(point) == Some(&b'.') { digits_end(json, point + 1) } else { point })
}

/// The end of any value except a string. The value may have `max_depth` levels of objects and arrays.
pub(crate) fn value_end(json: &[u8], from: usize, max_depth: usize) -> Result<usize, Invalid> {
    match json.get(from) {
        Some(b'{' | b'[') => container_end(json, from, max_depth),
        _ => scalar_end(json, from),
    }
}

/// The end of a number, a boolean or null.
fn scalar_end(json: &[u8], from: usize) -> Result<usize, Invalid> {
    let end = match json.get(from) {
        Some(b't') => literal_end(json, from, b"true"),
        Some(b'f') => literal_end(json, from, b"false"),
        Some(b'n') => literal_end(json, from, b"null"),
        _ => number_end(json, from),
    };
    match end {
        Some(end) if end - from <= MAX_NUMBER_CHARS => Ok(end),
        Some(_) => Err(Invalid::LongNumber),
        None => Err(Invalid::Json),
    }
}

/// `json` without whitespace at its start and end.
pub(crate) fn trimmed(json: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let end = json.iter().rposition(|byte| !is_space(byte)).map_or(0, |last| last + 1);
    &json[space_end(json, 0).min(end)..end]
}

/// The end of the whitespace at `at`, if there is any.
pub(crate) fn space_end(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = json.get(at) {
        at += 1;
    }
    at
}

/// The name of a member, and the colon after it.
pub(crate) fn name(json: &[u8], from: usize) -> Option<Name> {
    let (end, has_escapes) = string_end(json, after(json, from, b'"')?)?;
    let value = space_end(json, after(json, space_end(json, end), b':')?);
    Some(Name { end, has_escapes, value })
}

/// The positions of a name and of its value.
pub(crate) struct Name {
    /// The position after the closing quote.
    pub(crate) end: usize,
    pub(crate) has_escapes: bool,
    /// The position of the value.
    pub(crate) value: usize,
}

/// The end of an object or an array that may have `max_depth` levels.
fn container_end(json: &[u8], from: usize, max_depth: usize) -> Result<usize, Invalid> {
    // The closing brackets of the containers that are open.
    let mut open = Vec::new();
    let mut at = from;
    loop {
        at = match json.get(at) {
            Some(bracket @ (b'{' | b'[')) => {
                if open.len() >= max_depth {
                    return Err(Invalid::TooDeep);
                }
                // In ASCII, a closing bracket is two after its opening bracket.
                let closing = bracket + 2;
                at = space_end(json, at + 1);
                if json.get(at) != Some(&closing) {
                    open.push(closing);
                    at = element(json, at, closing).ok_or(Invalid::Json)?;
                    continue;
                }
                at + 1
            }
            Some(b'"') => string_end(json, at + 1).ok_or(Invalid::Json)?.0,
            _ => scalar_end(json, at)?,
        };
        loop {
            let Some(&closing) = open.last() else { return Ok(at) };
            at = space_end(json, at);
            if json.get(at) != Some(&closing) {
                let next = after(json, at, b',').ok_or(Invalid::Json)?;
                at = element(json, space_end(json, next), closing).ok_or(Invalid::Json)?;
                break;
            }
            open.pop();
            at += 1;
        }
    }
}

/// The position of the next value in the container that ends with `closing`: in an object, it follows a name.
fn element(json: &[u8], from: usize, closing: u8) -> Option<usize> {
    if closing == b'}' { Some(name(json, from)?.value) } else { Some(from) }
}

/// The position after `byte`, if `byte` is at `at`.
pub(crate) fn after(json: &[u8], at: usize, byte: u8) -> Option<usize> {
    (json.get(at) == Some(&byte)).then_some(at + 1)
}

fn literal_end(json: &[u8], from: usize, literal: &[u8]) -> Option<usize> {
    json.get(from..)?.starts_with(literal).then_some(from + literal.len())
}

/// The end of an escape. `from` is after its backslash.
fn escape_end(json: &[u8], from: usize) -> Option<usize> {
    match json.get(from)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(from + 1),
        b'u' => json.get(from + 1..from + 5)?.iter().all(u8::is_ascii_hexdigit).then_some(from + 5),
        _ => None,
    }
}

/// The end of the digits from `from` on.
fn digits_end(json: &[u8], from: usize) -> usize {
    run_end(json, from, not_digits)
}

/// The end of the characters of a string that stand for themselves: the next quote, backslash or control character.
pub(crate) fn plain_end(json: &[u8], from: usize) -> usize {
    run_end(json, from, not_plain)
}

/// How many bytes are examined at once.
const WINDOW: usize = 16;

fn window(json: &[u8], at: usize) -> Option<&[u8; WINDOW]> {
    json.get(at..)?.first_chunk()
}

/// The end of a run of bytes: the position of the first byte that `mark` marks.
fn run_end(json: &[u8], mut at: usize, mark: impl Fn(u64) -> u64) -> usize {
    while let Some(window) = window(json, at) {
        let length = first(marks(window, &mark));
        at += length;
        if length < WINDOW {
            return at;
        }
    }
    let is_in_run = |byte: &u8| mark(u64::from(*byte)) & 0x80 == 0;
    at + json.get(at..).map_or(0, |rest| rest.iter().take_while(|byte| is_in_run(byte)).count())
}

/// The marks of both halves of a window: the highest bit of each marked byte.
fn marks(window: &[u8; WINDOW], mark: impl Fn(u64) -> u64) -> u128 {
    let [low, high] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&window[at..at + 8]);
        mark(u64::from_le_bytes(half)) & each(0x80)
    });
    u128::from(high) << 64 | u128::from(low)
}

/// The position of the first marked byte.
fn first(marks: u128) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// A word with every byte set to `byte`.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Sets the highest bit of every byte that is not a digit.
fn not_digits(word: u64) -> u64 {
    let digits = word ^ each(b'0');
    // The sum sets the highest bit of every byte above 9 that does not have it yet.
    ((digits & each(0x7F)) + each(0x80 - 10)) | digits
}

/// Sets the highest bit of the first byte that is a quote, a backslash or a control character. The bits of the bytes
/// after it are undefined, because the subtraction may carry a borrow into them.
fn not_plain(word: u64) -> u64 {
    let is_zero = |word: u64| word.wrapping_sub(each(1)) & !word;
    let is_control = word.wrapping_sub(each(b' ')) & !word;
    is_zero(word ^ each(b'"')) | is_zero(word ^ each(b'\\')) | is_control
}
