use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use flate2::read::MultiGzDecoder;

use super::*;

fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn every_file_of_the_page_is_served() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let files = files_below(&folder);
    let paths = files.iter().map(|file| file.strip_prefix(&folder).unwrap().to_str().unwrap());
    let mut expected: BTreeSet<_> = paths.filter(|path| *path != "content-security-policy.txt").collect();
    assert!(expected.remove("index.html"));
    expected.insert("");
    assert_eq!(ASSETS.keys().copied().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn the_page_has_less_than_100_kib_compressed() {
    let size: usize = ASSETS.values().map(|asset| asset.gzip.len()).sum();
    assert!(size < 100 << 10, "{size} bytes");
}

#[test]
fn a_response_has_content_type_entity_tag_and_security_headers() {
    let response = respond("", &HeaderMap::new());
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(response.headers()["cross-origin-opener-policy"], "same-origin");
    assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin");
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn a_path_that_is_not_an_asset_is_not_found() {
    for path in ["index.htm", "../Cargo.toml", "vendor", "vendor/", "content-security-policy.txt"] {
        let response = respond(path, &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
}

#[test]
fn a_client_with_the_current_content_gets_304() {
    let etag = respond("app.js", &HeaderMap::new()).headers()[header::ETAG].clone();
    let has = |value: &str| {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::try_from(value).unwrap())]);
        respond("app.js", &headers).status() == StatusCode::NOT_MODIFIED
    };
    let etag = etag.to_str().unwrap();
    assert!(has(etag) && has("*") && has(&format!("\"other\", W/{etag}")));
    assert!(!has("\"other\"") && !has(&etag.replace('"', "")));
}

#[test]
fn compressed_content_has_an_entity_tag_of_its_own() {
    let plain = respond("app.js", &HeaderMap::new());
    let compressed = respond("app.js", &headers(header::ACCEPT_ENCODING, "br, gzip;q=0.8"));
    assert_eq!(compressed.headers()[header::CONTENT_ENCODING], "gzip");
    assert_ne!(compressed.headers()[header::ETAG], plain.headers()[header::ETAG]);
    let asset = asset("app.js").unwrap();
    let mut text = Vec::new();
    MultiGzDecoder::new(&asset.gzip[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, asset.bytes);
}

#[test]
fn a_client_that_refuses_gzip_gets_plain_content() {
    for refusal in ["", "identity", "gzip;q=0", "gzip; q=0.0, br"] {
        let response = respond("app.js", &headers(header::ACCEPT_ENCODING, refusal));
        assert!(!response.headers().contains_key(header::CONTENT_ENCODING), "{refusal}");
    }
}

#[test]
fn the_page_has_no_inline_script_or_style_and_never_parses_markup() {
    let page = std::str::from_utf8(asset("").unwrap().bytes).unwrap();
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"), "inline code");
    for (path, asset) in ASSETS.iter().filter(|(path, _)| path.ends_with(".js") && !path.starts_with("vendor/")) {
        let source = std::str::from_utf8(asset.bytes).unwrap();
        for forbidden in ["innerHTML", "eval(", "document.write", "insertAdjacent", "http://", "https://"] {
            assert!(!source.contains(forbidden), "{path}: {forbidden}");
        }
    }
}
