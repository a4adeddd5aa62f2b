//! The static assets of the operator's page, compiled in from `web/`. They contain no data: the page reads everything
//! from the HTTP API.

use std::{collections::BTreeMap, io::Write, sync::LazyLock};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use crate::hex::hex;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// Scripts, styles and images of this origin, calls to this origin, and nothing else.
const CONTENT_SECURITY_POLICY: &str = include_str!("../web/content-security-policy.txt").trim_ascii_end();

/// Lists files of `web/` with their content types.
macro_rules! files {
    ($($path:literal $content_type:ident),* $(,)?) => {
        [$(($path, $content_type, &include_bytes!(concat!("../web/", $path))[..])),*]
    };
}

/// The page itself has the empty path.
static ASSETS: LazyLock<BTreeMap<&str, Asset>> = LazyLock::new(|| {
    let files = files! {
        "index.html" HTML, "style.css" CSS, "icon.svg" SVG,
        "api.js" JAVASCRIPT, "app.js" JAVASCRIPT, "attribute-form.js" JAVASCRIPT, "attribute-overview.js" JAVASCRIPT,
        "attributes.js" JAVASCRIPT, "change.js" JAVASCRIPT, "customers.js" JAVASCRIPT, "cycles.js" JAVASCRIPT, "definitions.js" JAVASCRIPT,
        "drop-list.js" JAVASCRIPT, "drop.js" JAVASCRIPT, "drops.js" JAVASCRIPT, "format.js" JAVASCRIPT,
        "forms.js" JAVASCRIPT, "groups.js" JAVASCRIPT, "heat-map.js" JAVASCRIPT, "html.js" JAVASCRIPT,
        "key.js" JAVASCRIPT, "plan.js" JAVASCRIPT, "range-bars.js" JAVASCRIPT,
        "replay-runs.js" JAVASCRIPT, "replay.js" JAVASCRIPT, "resource.js" JAVASCRIPT, "route.js" JAVASCRIPT,
        "settings-form.js" JAVASCRIPT, "setup.js" JAVASCRIPT, "states.js" JAVASCRIPT, "ui.js" JAVASCRIPT,
        "vendor/hooks.js" JAVASCRIPT, "vendor/htm.js" JAVASCRIPT, "vendor/preact.js" JAVASCRIPT,
        "vendor/LICENSES.txt" TEXT,
    };
    files
        .into_iter()
        .map(|(path, content_type, bytes)| {
            let path = if path == "index.html" { "" } else { path };
            (path, Asset::new(content_type, bytes))
        })
        .collect()
});

/// A file of the page.
#[derive(Debug)]
pub struct Asset {
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
    /// Its content, compressed with gzip.
    pub gzip: Bytes,
    /// A hash of the content.
    version: String,
}

impl Asset {
    fn new(content_type: &'static str, bytes: &'static [u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzip = encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory does not fail");
        let version = hex(&Sha256::digest(bytes)[..16]);
        Self { content_type, bytes, gzip: gzip.into(), version }
    }

    /// The strong entity tag of the content as it is sent.
    fn etag(&self, is_gzip: bool) -> String {
        format!("\"{}{}\"", self.version, if is_gzip { "-gzip" } else { "" })
    }
}

/// The asset with this path; the page itself has the empty path.
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.get(path)
}

/// Responds to `GET` or `HEAD` for the asset with this path: 304 if the client has it, 404 if there is no such asset.
///
/// Every response has the headers that keep the page from loading anything else and from being framed.
pub fn respond(path: &str, headers: &HeaderMap) -> Response<Body> {
    let mut response = match asset(path) {
        Some(asset) => found(asset, headers),
        None => status_only(StatusCode::NOT_FOUND),
    };
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    response.headers_mut().extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

fn found(asset: &'static Asset, headers: &HeaderMap) -> Response<Body> {
    let is_gzip = accepts_gzip(headers);
    let etag = asset.etag(is_gzip);
    let mut response = if client_has(headers, &etag) {
        status_only(StatusCode::NOT_MODIFIED)
    } else {
        let bytes = if is_gzip { asset.gzip.clone() } else { Bytes::from_static(asset.bytes) };
        let mut response = Response::new(Body::from(bytes));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
        if is_gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let etag = HeaderValue::try_from(etag).expect("hexadecimal digits in quotes are a header value");
    response.headers_mut().insert(header::ETAG, etag);
    // The names carry no version, so a browser asks each time whether its copy is current.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

fn status_only(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Whether the client lists gzip, without a quality of zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    list(headers, header::ACCEPT_ENCODING).any(|item| {
        let (coding, quality) = item.split_once(';').unwrap_or((item, "q=1"));
        let is_refused = quality.trim().strip_prefix("q=").is_some_and(|quality| quality.parse() == Ok(0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// Whether the client has the content with this entity tag. `If-None-Match` compares weakly.
fn client_has(headers: &HeaderMap, etag: &str) -> bool {
    list(headers, header::IF_NONE_MATCH).any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == etag)
}

/// The items of a header that is a comma-separated list.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests;
