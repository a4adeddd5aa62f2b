//! Splits a URL as it is written, without normalizing it.
//!
//! The `url` crate resolves `..` and `%2e%2e` and silently removes tabs and newlines. The blob that a URL names decides
//! what vivadrop reads with its own credentials, so this parser rejects such URLs instead of normalizing them.

use percent_encoding::percent_decode_str;

use super::blob_path::is_safe_segment;

/// Scheme, authority and path of a URL, exactly as written. Query and fragment are ignored.
pub(super) struct RawUrl<'a> {
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    path: &'a str,
}

impl<'a> RawUrl<'a> {
    /// Splits `scheme://authority/path`; `None` if `text` has another form.
    pub(super) fn split(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.split(['?', '#']).next()?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        Some(Self { scheme, authority, path })
    }

    /// The path without its leading slash, percent-decoded once; `None` if a segment is not [safe](is_safe_segment).
    pub(super) fn path(&self) -> Option<String> {
        let path = percent_decode_str(self.path.strip_prefix('/')?).decode_utf8().ok()?;
        path.split('/').all(is_safe_segment).then(|| path.into_owned())
    }

    /// The host in lower case, and the port; `None` if there is user info, no host, or a port that is not a number.
    pub(super) fn host_and_port(&self) -> Option<(String, u16)> {
        let (host, port) = match self.authority.split_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => (host, port.parse().ok()?),
            Some(_) => return None,
            None => (self.authority, default_port(self.scheme)?),
        };
        let is_host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        (!host.is_empty() && host.chars().all(is_host_char)).then(|| (host.to_ascii_lowercase(), port))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}
