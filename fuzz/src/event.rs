//! Fuzzes the payloads of the Functions host. The result must not depend on how a payload is split into pieces or how
//! often an event is encoded, and no URL may lead out of the watched containers.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use vivadrop::{
    drop::{
        DropPath,
        containers::{DropContainer, UrlTarget, WatchedContainers},
    },
    host::{
        event::{EventUrl, Invocation, parse_invocation},
        payload::{MAX_STRING_BYTES, PayloadTrimmer, TrimmedPayload},
        response::InvocationResponse,
    },
    store::{
        Store,
        azure::{Account, AzureStore},
    },
};

use super::{
    bytes::{chance, in_pieces},
    memory_store::MemoryStore,
};

/// The watched containers of the storage emulator's account, and of a store whose URLs have no authority.
static WATCHED: LazyLock<[WatchedContainers; 2]> = LazyLock::new(|| {
    let account =
        Account::from_connection_string("UseDevelopmentStorage=true").expect("the connection string is valid");
    let emulator = AzureStore::new(&account).expect("the account is valid");
    let watched = |store: Arc<dyn Store>| WatchedContainers {
        store,
        drop_container: DropContainer::Named("datasets".into()),
        state_container: "vivadrop-state".into(),
        tenants: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().expect("the tenant id is valid"),
    };
    [watched(Arc::new(emulator)), watched(Arc::new(MemoryStore::default()))]
});

/// Uses the bytes as a payload.
pub fn check(bytes: &[u8]) {
    for pieces in in_pieces(bytes) {
        assert_eq!(trim(&pieces).json, bytes, "no string is long enough to be omitted");
    }
    // This check is slow, so it runs for one input in eight.
    if chance(bytes).u8(..8) == 0 {
        check_omission(bytes);
    }
    match trim(&[bytes]).parse() {
        Ok(payload) => check_payload(&payload),
        Err(error) => assert!(error.to_string().len() < 200, "the error quotes its input: {error}"),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        check_url(&EventUrl::new(text));
        if let Ok(path) = text.parse::<DropPath>() {
            assert_eq!(path.to_string().parse(), Ok(path.clone()));
            assert!(path.segments().all(|segment| !matches!(segment, "" | "." | "..")), "{path} has an unsafe segment");
        }
    }
}

fn trim(pieces: &[&[u8]]) -> TrimmedPayload {
    let mut trimmer = PayloadTrimmer::default();
    pieces.iter().try_for_each(|piece| trimmer.push(piece)).expect("the payload is not too large");
    trimmer.finish()
}

/// Checks that very long text after `bytes` is omitted if and only if `bytes` end within a string.
fn check_omission(bytes: &[u8]) {
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        in_string ^= *byte == b'"' && !escaped;
        escaped = in_string && *byte == b'\\' && !escaped;
    }
    let long = [b'x'; MAX_STRING_BYTES + 1];
    for mut pieces in in_pieces(bytes) {
        pieces.push(&long);
        assert_eq!(trim(&pieces).omitted, usize::from(in_string), "in {} pieces", pieces.len());
    }
}

fn check_payload(payload: &Value) {
    // A list that contains an event can only be events; an object can also be the payload of another trigger.
    if let Ok(events) = parse_invocation("function", &Value::Array(vec![payload.clone()])) {
        check_encodings(payload, &events);
    }
    match parse_invocation("function", payload) {
        Ok(invocation) => {
            assert!(!invocation.created.is_empty() || !invocation.ignored.is_empty(), "neither a blob nor a reason");
            invocation.created.iter().for_each(check_url);
            invocation.ignored.iter().for_each(|reason| check_one_line(&reason.to_string()));
        }
        Err(error) => check_one_line(&error.to_string()),
    }
}

/// Checks that an event is parsed in the same way in every encoding that the host uses.
fn check_encodings(payload: &Value, events: &Invocation) {
    let in_string = Value::String(payload.to_string());
    let in_two_strings = Value::String(in_string.to_string());
    for encoded in [payload.clone(), in_string, in_two_strings] {
        let in_data = json!({"Data": {"event": encoded}, "Metadata": {"Uri": "memory:///datasets/not-the-events"}});
        assert_eq!(parse_invocation("function", &encoded).as_ref(), Ok(events), "{encoded}");
        assert_eq!(parse_invocation("function", &in_data).as_ref(), Ok(events), "{in_data}");
    }
}

fn check_one_line(text: &str) {
    assert!(text.chars().count() < 1000 && !text.contains(char::is_control), "not a single log line: {text:?}");
    let response = serde_json::to_value(InvocationResponse::new(text)).expect("a response is JSON");
    assert!(response.is_object(), "the host waits for an object");
}

fn check_url(url: &EventUrl) {
    assert!(!url.to_string().contains(['?', '#']), "the query string is shown");
    for watched in &*WATCHED {
        if let UrlTarget::Watched(blob) = watched.classify(url.as_str()) {
            assert_eq!(blob.container, "datasets", "the blob is not in the watched container");
            let is_safe = |segment| !matches!(segment, "" | "." | "..");
            assert!(blob.name.split('/').all(is_safe), "{blob} has an unsafe segment");
        }
    }
}
