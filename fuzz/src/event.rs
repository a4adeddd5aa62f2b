//! Posts of the Functions host: the same in whatever pieces they arrive, the same however often the host wraps an event, and
//! no address leads out of the containers that count.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use vivadrop::{
    config::DropContainer,
    drop::DropPath,
    host::{
        event::{BlobUrl, Invocation, blob_urls},
        guard::{Guard, Notice},
        invocation::{Answer, Elide, LONGEST_STRING, Reduced},
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

/// Guards of the storage emulator's account, and of a store without an authority.
static GUARDS: LazyLock<[Guard; 2]> = LazyLock::new(|| {
    let account = Account::from_connection_string("UseDevelopmentStorage=true").expect("the emulator has an account");
    let emulator = AzureStore::new(&account).expect("the emulator is a store");
    let guard = |store: Arc<dyn Store>| Guard {
        store,
        drop_container: DropContainer::Named("datasets".into()),
        state_container: "vivadrop-state".into(),
        tenants: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().expect("a tenant"),
    };
    [guard(Arc::new(emulator)), guard(Arc::new(MemoryStore::default()))]
});

/// Takes the bytes as a post.
pub fn check(bytes: &[u8]) {
    for pieces in in_pieces(bytes) {
        assert_eq!(reduced(&pieces).json, bytes, "nothing is so long that it is left out");
    }
    // That takes long, so it is not done for all.
    if chance(bytes).u8(..8) == 0 {
        is_left_out_in_strings_alone(bytes);
    }
    match reduced(&[bytes]).parse() {
        Ok(post) => read(&post),
        Err(error) => assert!(error.to_string().len() < 200, "an error that quotes what it read: {error}"),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        is_judged(&BlobUrl::new(text));
        if let Ok(path) = text.parse::<DropPath>() {
            assert_eq!(path.to_string().parse(), Ok(path.clone()));
            assert!(path.segments().all(|segment| !matches!(segment, "" | "." | "..")), "{path} steps aside");
        }
    }
}

fn reduced(pieces: &[&[u8]]) -> Reduced {
    let mut elide = Elide::default();
    pieces.iter().try_for_each(|piece| elide.push(piece)).expect("the post is not too large");
    elide.finish()
}

/// Whether a very long text behind `bytes` is left out exactly where they end within a string.
fn is_left_out_in_strings_alone(bytes: &[u8]) {
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        in_string ^= *byte == b'"' && !escaped;
        escaped = in_string && *byte == b'\\' && !escaped;
    }
    let long = [b'x'; LONGEST_STRING + 1];
    for mut pieces in in_pieces(bytes) {
        pieces.push(&long);
        assert_eq!(reduced(&pieces).left_out, usize::from(in_string), "in {} pieces", pieces.len());
    }
}

fn read(post: &Value) {
    // A list of one event is nothing else, whereas an object may be.
    if let Ok(events) = blob_urls("function", &Value::Array(vec![post.clone()])) {
        is_the_same_wrapped(post, &events);
    }
    match blob_urls("function", post) {
        Ok(invocation) => {
            assert!(!invocation.created.is_empty() || !invocation.ignored.is_empty(), "neither a blob nor why not");
            invocation.created.iter().for_each(is_judged);
            invocation.ignored.iter().for_each(|why| is_one_line(&why.to_string()));
        }
        Err(no_blob) => is_one_line(&no_blob.to_string()),
    }
}

/// Whether an event is read the same from wherever the host puts it.
fn is_the_same_wrapped(post: &Value, events: &Invocation) {
    let in_text = Value::String(post.to_string());
    let in_text_again = Value::String(in_text.to_string());
    for wrapped in [post.clone(), in_text, in_text_again] {
        let in_data = json!({"Data": {"event": wrapped}, "Metadata": {"Uri": "memory:///datasets/not-the-events"}});
        assert_eq!(blob_urls("function", &wrapped).as_ref(), Ok(events), "{wrapped}");
        assert_eq!(blob_urls("function", &in_data).as_ref(), Ok(events), "{in_data}");
    }
}

fn is_one_line(text: &str) {
    assert!(text.chars().count() < 1000 && !text.contains(char::is_control), "no line of a log: {text:?}");
    let answer = serde_json::to_value(Answer::new(text)).expect("an answer is JSON");
    assert!(answer.is_object(), "the host waits for an object");
}

fn is_judged(url: &BlobUrl) {
    assert!(!url.to_string().contains(['?', '#']), "a query string is shown");
    for guard in &*GUARDS {
        if let Notice::Blob(blob) = guard.judge(url) {
            assert_eq!(blob.container, "datasets", "a blob elsewhere");
            assert!(blob.name.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{blob} steps aside");
        }
    }
}
