//! What the text of a URL says, before any library tidies it up.
//!
//! The `url` crate resolves `..` and `%2e%2e`, and drops tabs and newlines, without a word. Which blob a URL names decides
//! what is read with our credentials, so the text is taken apart as it came, and is refused where it steps up or aside.

use percent_encoding::percent_decode_str;

use crate::drop::is_plain_segment;

/// Scheme, authority and path of a URL, as they came. Query and fragment are not looked at.
pub(super) struct BlobUrl<'a> {
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    path: &'a str,
}

impl<'a> BlobUrl<'a> {
    pub(super) fn split(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.split(['?', '#']).next()?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        Some(Self { scheme, authority, path })
    }

    /// The path, percent-decoded once, without its first slash: segments that each name something, and slashes.
    pub(super) fn path(&self) -> Option<String> {
        let path = percent_decode_str(self.path.strip_prefix('/')?).decode_utf8().ok()?;
        path.split('/').all(is_plain_segment).then(|| path.into_owned())
    }

    /// Host, in small letters, and port. `None` for user info, an empty host, and a port that is no number.
    pub(super) fn host_and_port(&self) -> Option<(String, u16)> {
        let (host, port) = match self.authority.split_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => (host, port.parse().ok()?),
            Some(_) => return None,
            None => (self.authority, default_port(self.scheme)?),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        (!host.is_empty() && host.chars().all(plain)).then(|| (host.to_ascii_lowercase(), port))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}
