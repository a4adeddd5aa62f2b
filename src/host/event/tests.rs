//! Every payload that a host was seen to send, and some that somebody might make it send.

#[path = "../../../tests/support/host_payloads.rs"]
mod host_payloads;

use host_payloads::{
    blob_trigger, blob_trigger_with_content, cloud_event, event_grid_event, event_grid_trigger,
    event_grid_trigger_many, http_trigger, in_json, queue_trigger, timer_trigger,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const URL: &str = "https://acct.blob.core.windows.net/datasets/run/part%200.json.gz";
const OTHER: &str = "https://acct.blob.core.windows.net/datasets/other";

fn urls(post: &Value) -> Vec<String> {
    let read = blob_urls("function", post).unwrap();
    read.created.iter().map(|url| url.as_str().to_owned()).collect()
}

fn event() -> Value {
    event_grid_event(URL, "PutBlockList")
}

fn base64(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

#[test]
fn a_blob_trigger_names_its_blob_in_the_metadata() {
    let read = blob_urls("function", &blob_trigger(URL, 7)).unwrap();
    let expected = Invocation { created: vec![BlobUrl::new(URL)], ..Invocation::default() };
    assert_eq!(read, expected);
}

#[test]
fn an_address_that_is_not_doubly_encoded_counts_as_well() {
    let mut post = blob_trigger(URL, 7);
    post["Metadata"]["Uri"] = URL.into();
    assert_eq!(urls(&post), [URL]);
}

#[test]
fn properties_may_have_another_shape_or_be_missing() {
    let mut post = blob_trigger(URL, 7);
    post["Metadata"]["Properties"] = "{\"BlobType\":\"BlockBlob\"}".into();
    assert_eq!(urls(&post), [URL]);
    let mut post = blob_trigger_with_content(URL, b"content");
    post["Metadata"].as_object_mut().unwrap().remove("Properties");
    assert_eq!(urls(&post), [URL]);
    let mut post = blob_trigger(URL, 7);
    post["Metadata"].as_object_mut().unwrap().remove("Properties");
    assert_eq!(urls(&post), [URL]);
}

#[test]
fn a_blob_trigger_that_sends_the_content_is_told_of() {
    // `1234`, `null` and `true` are Base64 as well as JSON; an empty text is what is left of a long one.
    for content in [&b"AES of something"[..], b"", &[0xd7, 0x6d, 0xf8], &[0x9e, 0xe9, 0x65], &[0xb6, 0xbb, 0x9e]] {
        let read = blob_urls("function", &blob_trigger_with_content(URL, content)).unwrap();
        assert!(read.deferred_binding_off);
        assert_eq!(read.created, [BlobUrl::new(URL)]);
    }
}

#[test]
fn a_blob_whose_content_is_an_event_speaks_for_itself_alone() {
    let content = event_grid_event(OTHER, "PutBlob").to_string();
    let read = blob_urls("function", &blob_trigger_with_content(URL, content.as_bytes())).unwrap();
    assert_eq!(read.created, [BlobUrl::new(URL)]);
    assert!(read.deferred_binding_off);
}

#[test]
fn an_event_counts_wherever_the_host_puts_it() {
    for event in [event(), cloud_event(URL, "PutBlob")] {
        let text = event.to_string();
        for value in [
            event.clone(),
            text.clone().into(),
            in_json(&text),
            in_json(in_json(&text).as_str().unwrap()),
            base64(&event).into(),
            in_json(&base64(&event)),
            json!([event]),
            base64(&json!([event])).into(),
        ] {
            let post = json!({"Data": {"event": value}, "Metadata": {}});
            assert_eq!(urls(&post), [URL], "{value}");
        }
        assert_eq!(urls(&event_grid_trigger(&event)), [URL]);
        assert_eq!(urls(&event_grid_trigger_many(&[event.clone(), event.clone()])), [URL, URL]);
        assert_eq!(urls(&queue_trigger(&text)), [URL]);
        assert_eq!(urls(&queue_trigger(&json!([event]).to_string())), [URL]);
        assert_eq!(urls(&queue_trigger(&base64(&event))), [URL]);
        assert_eq!(urls(&http_trigger(&text)), [URL]);
        assert_eq!(urls(&event), [URL]);
        assert_eq!(urls(&json!([event, event])), [URL, URL]);
    }
}

#[test]
fn only_an_event_in_a_trigger_of_its_own_is_deferred_binding_off() {
    for post in [
        event_grid_trigger(&event()),
        event_grid_trigger_many(&[event()]),
        queue_trigger(&event().to_string()),
        json!({"Data": {"event": base64(&event())}, "Metadata": {}}),
    ] {
        assert!(!blob_urls("function", &post).unwrap().deferred_binding_off);
    }
}

#[test]
fn the_author_of_a_message_cannot_name_a_blob_in_the_metadata() {
    let mut message = event();
    message["Uri"] = OTHER.into();
    message["Properties"] = json!({"BlobType": 0});
    assert_eq!(urls(&queue_trigger(&message.to_string())), [URL]);
    assert_eq!(urls(&http_trigger(&message.to_string())), [URL]);

    let message = json!({"Uri": OTHER, "Properties": {"BlobType": 0}}).to_string();
    for post in [queue_trigger(&message), http_trigger(&message), http_trigger("x")] {
        let refused = blob_urls("function", &post).unwrap_err();
        assert!(refused.found.starts_with("Data."), "{refused}");
    }

    // A null removes what the host put there.
    let mut post = queue_trigger(&message);
    for name in ["PopReceipt", "DequeueCount"] {
        post["Metadata"].as_object_mut().unwrap().remove(name);
    }
    assert!(blob_urls("function", &post).is_err());

    // What the message was, when it was too long to be kept, does not show any more.
    let mut post = queue_trigger(&message);
    post["Data"]["item"] = "".into();
    assert!(blob_urls("function", &post).is_err());

    let mut post = queue_trigger("x");
    post["Data"]["item"] = base64(&event()).into();
    post["Metadata"]["Uri"] = OTHER.into();
    assert_eq!(urls(&post), [URL]);
}

#[test]
fn the_blob_endpoint_is_preferred_and_the_dfs_endpoint_is_translated() {
    let dfs = "https://acct.dfs.core.windows.net/datasets/a.dfs.b?sv=1";
    let blob = "https://acct.blob.core.windows.net/datasets/a.dfs.b?sv=1";
    assert_eq!(urls(&event_grid_event(dfs, "FlushWithClose")), [blob]);
    let mut event = event_grid_event(dfs, "FlushWithClose");
    event["data"]["blobUrl"] = URL.into();
    assert_eq!(urls(&event), [URL]);
    event["data"]["blobUrl"] = "".into();
    assert_eq!(urls(&event), [blob]);
    for other in ["http://127.0.0.1:10000/devstoreaccount1/a.dfs.b", "file:///x.dfs.y/z", ".dfs."] {
        assert_eq!(BlobUrl::new(other).as_str(), other);
    }
}

#[test]
fn events_of_other_types_are_ignored_by_name() {
    let mut deleted = event();
    deleted["eventType"] = "Microsoft.Storage.BlobDeleted".into();
    let mut small = cloud_event(URL, "PutBlob");
    small["type"] = "microsoft.storage.blobcreated".into();
    let read = blob_urls("function", &json!([deleted, small])).unwrap();
    assert_eq!(read.created, [BlobUrl::new(URL)]);
    assert_eq!(read.ignored, [Ignored::OtherType("Microsoft.Storage.BlobDeleted".into())]);

    let handshake = json!([{"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6", "validationUrl": "https://rp-eastus2.eventgrid.azure.net"}}]);
    let read = blob_urls("function", &handshake).unwrap();
    assert!(read.created.is_empty() && read.ignored.len() == 1);
}

#[test]
fn a_file_that_was_just_opened_is_ignored() {
    for api in ["CreateFile", "createfile"] {
        let read = blob_urls("function", &event_grid_trigger(&event_grid_event(URL, api))).unwrap();
        assert_eq!((read.created, read.ignored), (vec![], vec![Ignored::EmptyFile]));
    }
    let mut opened = event_grid_event(URL, "SftpCreate");
    assert_eq!(urls(&opened), [URL]);
    opened["data"]["contentLength"] = 0.into();
    assert_eq!(blob_urls("function", &opened).unwrap().ignored, [Ignored::EmptyFile]);
}

#[test]
fn the_data_of_an_event_may_be_text() {
    let mut event = cloud_event(URL, "PutBlob");
    let data = event["data"].take();
    event["data"] = data.to_string().into();
    assert_eq!(urls(&event), [URL]);
    event.as_object_mut().unwrap().remove("data");
    event["data_base64"] = base64(&data).into();
    assert_eq!(urls(&event), [URL]);
}

#[test]
fn an_event_without_an_address_spoils_no_other() {
    let mut empty = event();
    empty["data"] = json!({"api": "PutBlob"});
    assert!(blob_urls("function", &empty).is_err());
    let read = blob_urls("function", &json!([empty, event(), {"x": 1}, 7])).unwrap();
    assert_eq!(read.created.len(), 1);
    assert_eq!(read.ignored, [Ignored::Unreadable, Ignored::Unreadable, Ignored::Unreadable]);
}

#[test]
fn a_post_that_names_no_blob_says_what_was_looked_for_and_what_was_found() {
    let refused = blob_urls("drop", &timer_trigger()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the post to `drop` names no blob: expected a blob trigger's Metadata.Uri, an Event Grid event or a CloudEvent \
         with data.url, found Data.timer (an object)"
    );
    for (post, found) in [
        (queue_trigger("HELLO"), "Data.item (a text)"),
        (queue_trigger("{\"a\":1}"), "Data.item (a text)"),
        (json!([]), "a list"),
        (json!({}), "an empty object"),
        (json!({"Data": {}, "Metadata": {}}), "an empty object"),
        (json!({"path": "secret"}), "path (a text)"),
        (json!("secret"), "a text"),
        (json!(null), "null"),
        (json!({"Data": {"x": ""}}), "Data.x (an empty text, or one too long to be kept)"),
    ] {
        assert_eq!(blob_urls("drop", &post).unwrap_err().found, found);
    }
}

#[test]
fn an_address_is_printed_without_its_query_string() {
    let url = BlobUrl::new("https://acct.blob.core.windows.net/c/b?sig=secret#x");
    assert_eq!(format!("{url:?}"), "BlobUrl(https://acct.blob.core.windows.net/c/b)");
    assert!(url.as_str().contains("secret"));
}

/// JSON of the names and texts that mean something here.
fn posts() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "Data",
        "Metadata",
        "Uri",
        "Properties",
        "data",
        "url",
        "blobUrl",
        "eventType",
        "type",
        "specversion",
        "Body",
        "Url",
        "Method",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<u8>().prop_map(Value::from),
        prop::sample::select(vec!["", "x", "null", "\"\"", "{}", BLOB, URL, "e30=", "W10="]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner.clone()), 0..5)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            inner.clone().prop_map(|value| value.to_string().into()),
            inner.prop_map(|value| base64(&value).into()),
        ]
    })
}

const BLOB: &str = "Microsoft.Storage.BlobCreated";

proptest! {
    #[test]
    fn whatever_is_posted_there_is_an_answer_that_says_something(post in posts()) {
        if let Ok(read) = blob_urls("function", &post) {
            prop_assert!(!read.created.is_empty() || !read.ignored.is_empty());
            prop_assert!(read.created.iter().all(|url| !url.as_str().trim().is_empty()));
        }
    }

    /// A queue item is a string of JSON, whatever its author wrote: nothing in it is an address but an event's.
    #[test]
    fn no_message_is_taken_for_a_blob(message in posts()) {
        let mut message = message;
        if let Value::Object(members) = &mut message {
            members.insert("Uri".into(), OTHER.into());
        }
        if let Ok(read) = blob_urls("function", &queue_trigger(&message.to_string())) {
            prop_assert!(!read.deferred_binding_off);
            prop_assert!(read.created.iter().all(|url| url.as_str() != OTHER));
        }
    }
}
