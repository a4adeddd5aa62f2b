use super::*;

fn at(endpoint: &str, url: &str) -> Option<String> {
    parse_blob_url(&Url::parse(endpoint).unwrap(), url).map(|path| path.to_string())
}

fn ours(url: &str) -> Option<String> {
    at("https://acct.blob.core.windows.net", url)
}

fn emulated(url: &str) -> Option<String> {
    at("http://127.0.0.1:10000/devstoreaccount1", url)
}

#[test]
fn a_url_of_the_account_names_its_blob() {
    for url in [
        "https://acct.blob.core.windows.net/datasets/run/part-0",
        "https://acct.blob.core.windows.net:443/datasets/run/part-0",
        "https://ACCT.Blob.Core.Windows.NET/datasets/run/part-0",
        "HTTPS://acct.blob.core.windows.net/datasets/run/part-0",
        "https://acct.dfs.core.windows.net/datasets/run/part-0",
        "https://acct.blob.core.windows.net/datasets/run%2Fpart-0",
        "https://acct.blob.core.windows.net/datasets/run/part-0?sv=1&sig=x/../y#z",
    ] {
        assert_eq!(ours(url).as_deref(), Some("datasets/run/part-0"), "{url}");
    }
}

#[test]
fn a_name_is_decoded_once() {
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
        assert_eq!(ours(&format!("{base}{url}")), Some(format!("c/{name}")), "{url}");
    }
}

#[test]
fn a_foreign_url_names_nothing() {
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
        assert_eq!(ours(url), None, "{url}");
    }
}

#[test]
fn a_url_that_steps_up_or_aside_names_nothing() {
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
        assert_eq!(ours(&url), None, "{url}");
    }
}

#[test]
fn the_emulator_is_told_by_host_port_and_account() {
    for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
        let url = format!("http://{host}:10000/devstoreaccount1/c/a/b");
        assert_eq!(emulated(&url).as_deref(), Some("c/a/b"), "{url}");
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
        assert_eq!(emulated(url), None, "{url}");
    }
}

#[test]
fn loopback_is_no_part_of_an_account_in_the_cloud() {
    assert_eq!(ours("https://localhost/c/b"), None);
    assert_eq!(at("http://10.0.0.1:80/acct", "http://localhost/acct/c/b"), None);
}
