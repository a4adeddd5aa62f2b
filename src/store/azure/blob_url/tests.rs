use super::*;

fn blob_at(endpoint: &str, url: &str) -> Option<String> {
    parse_blob_url(&Url::parse(endpoint).unwrap(), url).map(|path| path.to_string())
}

fn in_account(url: &str) -> Option<String> {
    blob_at("https://acct.blob.core.windows.net", url)
}

fn in_emulator(url: &str) -> Option<String> {
    blob_at("http://127.0.0.1:10000/devstoreaccount1", url)
}

#[test]
fn a_url_of_the_account_names_a_blob() {
    for url in [
        "https://acct.blob.core.windows.net/datasets/run/part-0",
        "https://acct.blob.core.windows.net:443/datasets/run/part-0",
        "https://ACCT.Blob.Core.Windows.NET/datasets/run/part-0",
        "HTTPS://acct.blob.core.windows.net/datasets/run/part-0",
        "https://acct.dfs.core.windows.net/datasets/run/part-0",
        "https://acct.blob.core.windows.net/datasets/run%2Fpart-0",
        "https://acct.blob.core.windows.net/datasets/run/part-0?sv=1&sig=x/../y#z",
    ] {
        assert_eq!(in_account(url).as_deref(), Some("datasets/run/part-0"), "{url}");
    }
}

#[test]
fn a_name_is_percent_decoded_once() {
    let base = "https://acct.blob.core.windows.net/c/";
    for (url, name) in [
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("100%25", "100%"),
        ("%252e%252e", "%2e%2e"),
        ("%23%3F", "#?"),
        ("%C3%BCber", "über"),
        ("über", "über"),
    ] {
        assert_eq!(in_account(&format!("{base}{url}")), Some(format!("c/{name}")), "{url}");
    }
}

#[test]
fn a_url_of_another_account_names_no_blob() {
    for url in [
        "https://other.blob.core.windows.net/c/b",
        "https://acct.blob.core.windows.net.evil.com/c/b",
        "https://evil.com/acct.blob.core.windows.net/c/b",
        "https://acct.blob.core.windows.net@evil.com/c/b",
        "https://evil.com@acct.blob.core.windows.net/c/b",
        "https://evil.com\\@acct.blob.core.windows.net/c/b",
        "https://acct.blob.core.windows.net\\.evil.com/c/b",
        "https://acct.blob.core.windows.net:444/c/b",
        "https://acct.blob.core.windows.net:/c/b",
        "https://acct.blob.core.windows.net:443:443/c/b",
        "https://acct.blob.core.windows.net:+443/c/b",
        "https://acct.blob.core.windows.net./c/b",
        "https://acct.queue.core.windows.net/c/b",
        "https://acct.dfs.core.windows.net.evil.com/c/b",
        "https://acct%2eblob.core.windows.net/c/b",
        "https:///c/b",
        "https:acct.blob.core.windows.net/c/b",
        "http://acct.blob.core.windows.net/c/b",
        "http://acct.blob.core.windows.net:443/c/b",
        "ftp://acct.blob.core.windows.net/c/b",
        "//acct.blob.core.windows.net/c/b",
        " https://acct.blob.core.windows.net/c/b",
        "",
    ] {
        assert_eq!(in_account(url), None, "{url}");
    }
}

#[test]
fn a_url_with_an_unsafe_segment_names_no_blob() {
    for path in [
        "",
        "/",
        "/c",
        "/c/",
        "//c/b",
        "/c//b",
        "/c/b/",
        "/c/../d/b",
        "/c/%2e%2e/d/b",
        "/c/.%2E/d/b",
        "/c/..%2Fd/b",
        "/c/./b",
        "/../c/b",
        "/c/a\\b",
        "/c/a%5Cb",
        "/c/a\tb",
        "/c/a%0Ab",
        "/c/b%00",
        "/c/%FF",
        "/c?/b",
    ] {
        let url = format!("https://acct.blob.core.windows.net{path}");
        assert_eq!(in_account(&url), None, "{url}");
    }
}

#[test]
fn an_emulators_url_matches_by_host_port_and_account() {
    for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
        let url = format!("http://{host}:10000/devstoreaccount1/c/a/b");
        assert_eq!(in_emulator(&url).as_deref(), Some("c/a/b"), "{url}");
    }
    for url in [
        "http://127.0.0.1:10000/another/c/b",
        "http://127.0.0.1:10000/devstoreaccount10/c/b",
        "http://127.0.0.1:10000/devstoreaccount1",
        "http://127.0.0.1:10000/devstoreaccount1/c",
        "http://127.0.0.1:10000/devstoreaccount1/../other/c/b",
        "http://127.0.0.1:10001/devstoreaccount1/c/b",
        "http://127.0.0.1/devstoreaccount1/c/b",
        "http://127.0.0.2:10000/devstoreaccount1/c/b",
        "https://127.0.0.1:10000/devstoreaccount1/c/b",
    ] {
        assert_eq!(in_emulator(url), None, "{url}");
    }
}

#[test]
fn a_loopback_url_does_not_match_an_account_elsewhere() {
    assert_eq!(in_account("https://localhost/c/b"), None);
    assert_eq!(blob_at("http://10.0.0.1:80/acct", "http://localhost/acct/c/b"), None);
}
