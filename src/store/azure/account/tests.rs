use super::*;

const KEY: &str = "bm90IGEgc2VjcmV0";

fn account(text: &str) -> Account {
    Account::from_connection_string(text).unwrap()
}

fn error(text: &str) -> String {
    Account::from_connection_string(text).unwrap_err().to_string()
}

#[test]
fn a_connection_string_from_the_portal_is_accepted() {
    let text =
        format!("DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};EndpointSuffix=core.windows.net");
    let account = account(&text);
    assert_eq!(account.blob_endpoint().as_str(), "https://acct.blob.core.windows.net/");
    assert_eq!(account.queue_endpoint().unwrap().as_str(), "https://acct.queue.core.windows.net/");
    assert!(account.credential().is_none());
}

#[test]
fn names_match_in_any_case_and_unknown_names_are_ignored() {
    let account = account(&format!(" accountname = acct ;ACCOUNTKEY={KEY};TableEndpoint=https://t;;"));
    assert_eq!(account.blob_endpoint().host_str(), Some("acct.blob.core.windows.net"));
}

#[test]
fn development_storage_is_the_emulator_on_this_machine() {
    let account = account("UseDevelopmentStorage=true");
    assert_eq!(account.blob_endpoint().as_str(), "http://127.0.0.1:10000/devstoreaccount1");
    assert_eq!(account.queue_endpoint().unwrap().as_str(), "http://127.0.0.1:10001/devstoreaccount1");
}

#[test]
fn a_sas_is_used_unchanged_with_or_without_an_account_name() {
    for text in [
        "AccountName=acct;SharedAccessSignature=?sv=1&sig=a%2Bb%3D",
        "BlobEndpoint=https://acct.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=a%2Bb%3D",
    ] {
        let account = account(text);
        assert_eq!(account.blob_endpoint().as_str(), "https://acct.blob.core.windows.net/");
        assert_eq!(account.queue_endpoint().unwrap().host_str(), Some("acct.queue.core.windows.net"));
        assert_eq!(account.shared_access_signature().unwrap().expose_secret(), "sv=1&sig=a%2Bb%3D");
    }
}

#[test]
fn the_queue_endpoint_of_an_emulator_is_not_guessed() {
    let text = format!("AccountName=acct;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/acct");
    assert!(account(&text).queue_endpoint().is_none());
}

#[test]
fn plain_http_is_accepted_on_loopback_only() {
    for endpoint in ["http://localhost:1/a", "http://127.0.0.1:1/a", "http://[::1]:1/a"] {
        account(&format!("AccountName=acct;AccountKey={KEY};BlobEndpoint={endpoint}"));
    }
    for text in [
        "BlobEndpoint=http://acct.blob.core.windows.net",
        "BlobEndpoint=http://127.0.0.1.example.com",
        "DefaultEndpointsProtocol=http",
    ] {
        let error = error(&format!("AccountName=acct;AccountKey={KEY};{text}"));
        assert!(error.contains("https URL"), "{error}");
    }
}

#[test]
fn errors_name_the_value_and_never_quote_it() {
    for (text, expected) in [
        ("", "expected a connection string"),
        ("s3cret", "expected a connection string"),
        ("s3cret=s3cret", "expected a connection string"),
        ("AccountName=acct", "no AccountKey and no SharedAccessSignature"),
        ("AccountKey=czNjcmV0", "no AccountName"),
        ("SharedAccessSignature=sig=s3cret", "no AccountName and no BlobEndpoint"),
        ("AccountName=acct;AccountKey=s3cret!", "AccountKey is not usable"),
        ("AccountName=s3cret/x;AccountKey=czNjcmV0", "AccountName is not usable"),
        ("AccountName=acct;SharedAccessSignature=s3cret", "SharedAccessSignature is not usable"),
        ("AccountName=acct;SharedAccessSignature=sig=s3cret;AccountKey=czNjcmV0", "keep one"),
        ("AccountName=acct;AccountKey=czNjcmV0;accountkey=czNjcmV0", "AccountKey twice"),
        ("AccountName=acct;AccountKey=czNjcmV0;EndpointSuffix=s3cret/", "EndpointSuffix is not usable"),
        ("BlobEndpoint=https://h?sig=s3cret;SharedAccessSignature=sig=s3cret", "BlobEndpoint is not usable"),
        ("UseDevelopmentStorage=s3cret", "UseDevelopmentStorage is not usable"),
        ("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://s3cret", "DevelopmentStorageProxyUri"),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("s3cret") && !error.contains("czNjcmV0"), "{error}");
    }
}

#[test]
fn debug_output_shows_no_secret() {
    for text in
        [format!("AccountName=acct;AccountKey={KEY}"), format!("AccountName=acct;SharedAccessSignature=sv=1&sig={KEY}")]
    {
        let account = account(&text);
        let debug = format!("{account:?} {:?}", account.client_options());
        assert!(!debug.contains(KEY), "{debug}");
    }
}

#[test]
fn a_managed_identity_requires_https() {
    let account =
        Account::with_identity("https://acct.blob.core.windows.net/", None, &Identity::Managed(Some("client".into())))
            .unwrap();
    assert!(account.credential().is_some());
    assert!(account.shared_access_signature().is_none());
    assert_eq!(account.queue_endpoint().unwrap().as_str(), "https://acct.queue.core.windows.net/");
    let error =
        Account::with_identity("http://127.0.0.1:10000/devstoreaccount1", None, &Identity::Managed(None)).unwrap_err();
    assert!(error.to_string().contains("blobServiceUri"), "{error}");
}
