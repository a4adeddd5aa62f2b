//! All payloads that a host was observed to send, and some that a sender could cause it to send.

#[path = "../../../tests/support/host_payloads.rs"]
mod host_payloads;

use base64::{Engine, engine::general_purpose::STANDARD};
use host_payloads::{
    blob_trigger, blob_trigger_with_content, cloud_event, event_grid_event, event_grid_trigger,
    event_grid_trigger_many, http_trigger, in_json, queue_trigger, timer_trigger,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const URL: &str = "https://acct.blob.core.windows.net/datasets/run/part%200.json.gz";
const OTHER: &str = "https://acct.blob.core.windows.net/datasets/other";

fn urls(payload: &Value) -> Vec<String> {
    let invocation = parse_invocation("function", payload).unwrap();
    invocation.created.iter().map(|url| url.as_str().to_owned()).collect()
}

fn event() -> Value {
    event_grid_event(URL, "PutBlockList")
}

fn base64(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

#[test]
fn the_url_of_a_blob_trigger_is_in_its_metadata() {
    let invocation = parse_invocation("function", &blob_trigger(URL, 7)).unwrap();
    let expected = Invocation { created: vec![EventUrl::new(URL)], ..Invocation::default() };
    assert_eq!(invocation, expected);
}

#[test]
fn a_url_that_is_encoded_once_is_accepted() {
    let mut payload = blob_trigger(URL, 7);
    payload["Metadata"]["Uri"] = URL.into();
    assert_eq!(urls(&payload), [URL]);
}

#[test]
fn properties_may_have_another_shape_or_be_missing() {
    let mut payload = blob_trigger(URL, 7);
    payload["Metadata"]["Properties"] = "{\"BlobType\":\"BlockBlob\"}".into();
    assert_eq!(urls(&payload), [URL]);
    let mut payload = blob_trigger_with_content(URL, b"content");
    payload["Metadata"].as_object_mut().unwrap().remove("Properties");
    assert_eq!(urls(&payload), [URL]);
    let mut payload = blob_trigger(URL, 7);
    payload["Metadata"].as_object_mut().unwrap().remove("Properties");
    assert_eq!(urls(&payload), [URL]);
}

#[test]
fn a_blob_trigger_that_sends_the_content_is_reported() {
    // The Base64 of three of these is `1234`, `null` and `true`, which is also JSON. A string that was too long becomes
    // empty.
    for content in [&b"AES of something"[..], b"", &[0xd7, 0x6d, 0xf8], &[0x9e, 0xe9, 0x65], &[0xb6, 0xbb, 0x9e]] {
        let invocation = parse_invocation("function", &blob_trigger_with_content(URL, content)).unwrap();
        assert!(invocation.deferred_binding_off);
        assert_eq!(invocation.created, [EventUrl::new(URL)]);
    }
}

#[test]
fn an_event_in_the_content_of_a_blob_is_not_processed() {
    let content = event_grid_event(OTHER, "PutBlob").to_string();
    let invocation = parse_invocation("function", &blob_trigger_with_content(URL, content.as_bytes())).unwrap();
    assert_eq!(invocation.created, [EventUrl::new(URL)]);
    assert!(invocation.deferred_binding_off);
}

#[test]
fn an_event_is_found_in_every_encoding() {
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
            let payload = json!({"Data": {"event": value}, "Metadata": {}});
            assert_eq!(urls(&payload), [URL], "{value}");
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
fn a_payload_full_of_events_is_within_the_limits() {
    let event = event().to_string();
    let count = crate::host::payload::MAX_PAYLOAD_BYTES / (event.len() + 1);
    let payload = format!("[{}]", vec![event; count].join(","));
    let payload = crate::json::bounded_value(payload.as_bytes()).unwrap();
    assert_eq!(urls(&payload).len(), count);
}

#[test]
fn events_of_other_triggers_do_not_report_deferred_binding_as_off() {
    for payload in [
        event_grid_trigger(&event()),
        event_grid_trigger_many(&[event()]),
        queue_trigger(&event().to_string()),
        json!({"Data": {"event": base64(&event())}, "Metadata": {}}),
    ] {
        assert!(!parse_invocation("function", &payload).unwrap().deferred_binding_off);
    }
}

#[test]
fn the_author_of_a_message_cannot_set_the_url_in_the_metadata() {
    let mut message = event();
    message["Uri"] = OTHER.into();
    message["Properties"] = json!({"BlobType": 0});
    assert_eq!(urls(&queue_trigger(&message.to_string())), [URL]);
    assert_eq!(urls(&http_trigger(&message.to_string())), [URL]);

    let message = json!({"Uri": OTHER, "Properties": {"BlobType": 0}}).to_string();
    for payload in [queue_trigger(&message), http_trigger(&message), http_trigger("x")] {
        let error = parse_invocation("function", &payload).unwrap_err();
        assert!(error.found.starts_with("Data."), "{error}");
    }

    // The author can remove members that the host adds, by setting them to null.
    let mut payload = queue_trigger(&message);
    for name in ["PopReceipt", "DequeueCount"] {
        payload["Metadata"].as_object_mut().unwrap().remove(name);
    }
    assert!(parse_invocation("function", &payload).is_err());

    // A message that was too long to keep is an empty string.
    let mut payload = queue_trigger(&message);
    payload["Data"]["item"] = "".into();
    assert!(parse_invocation("function", &payload).is_err());

    let mut payload = queue_trigger("x");
    payload["Data"]["item"] = base64(&event()).into();
    payload["Metadata"]["Uri"] = OTHER.into();
    assert_eq!(urls(&payload), [URL]);
}

#[test]
fn a_blob_url_is_preferred_and_a_dfs_url_is_converted() {
    let dfs = "https://acct.dfs.core.windows.net/datasets/a.dfs.b?sv=1";
    let blob = "https://acct.blob.core.windows.net/datasets/a.dfs.b?sv=1";
    assert_eq!(urls(&event_grid_event(dfs, "FlushWithClose")), [blob]);
    let mut event = event_grid_event(dfs, "FlushWithClose");
    event["data"]["blobUrl"] = URL.into();
    assert_eq!(urls(&event), [URL]);
    event["data"]["blobUrl"] = "".into();
    assert_eq!(urls(&event), [blob]);
    for other in ["http://127.0.0.1:10000/devstoreaccount1/a.dfs.b", "file:///x.dfs.y/z", ".dfs."] {
        assert_eq!(EventUrl::new(other).as_str(), other);
    }
}

#[test]
fn events_of_other_types_are_ignored() {
    let mut deleted = event();
    deleted["eventType"] = "Microsoft.Storage.BlobDeleted".into();
    let mut small = cloud_event(URL, "PutBlob");
    small["type"] = "microsoft.storage.blobcreated".into();
    let invocation = parse_invocation("function", &json!([deleted, small])).unwrap();
    assert_eq!(invocation.created, [EventUrl::new(URL)]);
    assert_eq!(invocation.ignored, [Ignored::OtherType("Microsoft.Storage.BlobDeleted".into())]);

    let handshake = json!([{"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6", "validationUrl": "https://rp-eastus2.eventgrid.azure.net"}}]);
    let invocation = parse_invocation("function", &handshake).unwrap();
    assert!(invocation.created.is_empty() && invocation.ignored.len() == 1);
}

#[test]
fn a_file_that_was_just_opened_is_ignored() {
    for api in ["CreateFile", "createfile"] {
        let invocation = parse_invocation("function", &event_grid_trigger(&event_grid_event(URL, api))).unwrap();
        assert_eq!((invocation.created, invocation.ignored), (vec![], vec![Ignored::EmptyFile]));
    }
    let mut opened = event_grid_event(URL, "SftpCreate");
    assert_eq!(urls(&opened), [URL]);
    opened["data"]["contentLength"] = 0.into();
    assert_eq!(parse_invocation("function", &opened).unwrap().ignored, [Ignored::EmptyFile]);
}

#[test]
fn the_data_of_an_event_may_be_a_string() {
    let mut event = cloud_event(URL, "PutBlob");
    let data = event["data"].take();
    event["data"] = data.to_string().into();
    assert_eq!(urls(&event), [URL]);
    event.as_object_mut().unwrap().remove("data");
    event["data_base64"] = base64(&data).into();
    assert_eq!(urls(&event), [URL]);
}

#[test]
fn an_event_without_a_url_does_not_affect_the_others() {
    let mut empty = event();
    empty["data"] = json!({"api": "PutBlob"});
    assert!(parse_invocation("function", &empty).is_err());
    let invocation = parse_invocation("function", &json!([empty, event(), {"x": 1}, 7])).unwrap();
    assert_eq!(invocation.created.len(), 1);
    assert_eq!(invocation.ignored, [Ignored::Incomplete, Ignored::Incomplete, Ignored::Incomplete]);
}

#[test]
fn an_error_names_what_was_expected_and_what_was_found() {
    let error = parse_invocation("drop", &timer_trigger()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the payload for `drop` names no blob: expected a blobTrigger's Metadata.Uri, an Event Grid event or a CloudEvent \
         with data.url, found Data.timer (an object)"
    );
    for (payload, found) in [
        (queue_trigger("HELLO"), "Data.item (a string)"),
        (queue_trigger("{\"a\":1}"), "Data.item (a string)"),
        (json!([]), "a list"),
        (json!({}), "an empty object"),
        (json!({"Data": {}, "Metadata": {}}), "an empty object"),
        (json!({"path": "secret"}), "path (a string)"),
        (json!("secret"), "a string"),
        (json!(null), "null"),
        (json!({"Data": {"x": ""}}), "Data.x (a string that is empty or was too long to keep)"),
    ] {
        assert_eq!(parse_invocation("drop", &payload).unwrap_err().found, found);
    }
}

#[test]
fn a_url_is_printed_without_its_query_string() {
    let url = EventUrl::new("https://acct.blob.core.windows.net/c/b?sig=secret#x");
    assert_eq!(format!("{url:?}"), "EventUrl(https://acct.blob.core.windows.net/c/b)");
    assert!(url.as_str().contains("secret"));
}

/// JSON built from significant names and strings.
fn payloads() -> impl Strategy<Value = Value> {
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
    fn every_payload_yields_a_blob_a_reason_or_an_error(payload in payloads()) {
        if let Ok(invocation) = parse_invocation("function", &payload) {
            prop_assert!(!invocation.created.is_empty() || !invocation.ignored.is_empty());
            prop_assert!(invocation.created.iter().all(|url| !url.as_str().trim().is_empty()));
        }
    }

    /// The host sends a queue message as a string, so a URL in it counts only if it is part of an event.
    #[test]
    fn a_queue_message_is_never_treated_as_a_blob_trigger(message in payloads()) {
        let mut message = message;
        if let Value::Object(members) = &mut message {
            members.insert("Uri".into(), OTHER.into());
        }
        if let Ok(invocation) = parse_invocation("function", &queue_trigger(&message.to_string())) {
            prop_assert!(!invocation.deferred_binding_off);
            prop_assert!(invocation.created.iter().all(|url| url.as_str() != OTHER));
        }
    }
}
