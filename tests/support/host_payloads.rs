//! The request bodies that the Functions host posts for each trigger, and the events that Event Grid sends: complete,
//! as they were observed.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// A blobTrigger with deferred binding: the descriptor of the blob without its content.
pub(crate) fn blob_trigger(url: &str, size: u64) -> Value {
    let descriptor = json!({
        "Version": "1.0", "Source": "AzureStorageBlobs",
        "Content": {"Length": 85, "IsEmpty": false, "MediaType": "application/json"},
        "ContentType": "application/json",
    });
    json!({"Data": {"blob": descriptor}, "Metadata": blob_metadata(url, size)})
}

/// A blobTrigger without deferred binding: the blob's content in Base64.
pub(crate) fn blob_trigger_with_content(url: &str, content: &[u8]) -> Value {
    let metadata = blob_metadata(url, content.len() as u64);
    json!({"Data": {"blob": STANDARD.encode(content)}, "Metadata": metadata})
}

/// The metadata of a blobTrigger.
fn blob_metadata(url: &str, size: u64) -> Value {
    json!({
        "Uri": in_json(url), "Properties": blob_properties(size), "Metadata": {"sender": "x"},
        "name": in_json(url.rsplit('/').next().unwrap_or_default()), "sys": sys("drop"),
    })
}

/// `BlobProperties` as Storage.Blobs 5.3 serializes it: the ETag becomes an empty object.
fn blob_properties(size: u64) -> Value {
    let mut properties: Value = serde_json::from_str(BLOB_PROPERTIES).expect("the properties are JSON");
    properties["ContentLength"] = size.into();
    properties
}

const BLOB_PROPERTIES: &str = r#"{
    "LastModified": "2026-09-10T15:48:50+00:00", "CreatedOn": "2026-09-10T15:48:50+00:00", "Metadata": {},
    "ObjectReplicationDestinationPolicyId": null, "ObjectReplicationSourceProperties": null, "BlobType": 0,
    "CopyCompletedOn": "0001-01-01T00:00:00+00:00", "CopyStatusDescription": null, "CopyId": null, "CopyProgress": null,
    "CopySource": null, "CopyStatus": 0, "BlobCopyStatus": null, "IsIncrementalCopy": false, "DestinationSnapshot": null,
    "LeaseDuration": 0, "LeaseState": 0, "LeaseStatus": 1, "ContentLength": 0,
    "ContentType": "application/octet-stream", "ETag": {}, "ContentHash": "2jmj7l5rSw0yVb/vlWAYkA==",
    "ContentEncoding": null, "ContentDisposition": null, "ContentLanguage": null, "CacheControl": null,
    "BlobSequenceNumber": 0, "AcceptRanges": "bytes", "BlobCommittedBlockCount": 0, "IsServerEncrypted": true,
    "EncryptionKeySha256": null, "EncryptionScope": null, "AccessTier": "Hot", "AccessTierInferred": true,
    "ArchiveStatus": null, "AccessTierChangedOn": "0001-01-01T00:00:00+00:00", "VersionId": null, "IsLatestVersion": false,
    "TagCount": 0, "ExpiresOn": "0001-01-01T00:00:00+00:00", "IsSealed": false, "RehydratePriority": null,
    "LastAccessed": "0001-01-01T00:00:00+00:00", "ImmutabilityPolicy": {"ExpiresOn": null, "PolicyMode": null},
    "HasLegalHold": false
}"#;

/// An event in the Event Grid schema. `api` is the operation that wrote the blob, such as `PutBlockList`.
pub(crate) fn event_grid_event(url: &str, api: &str) -> Value {
    json!({
        "topic": "/subscriptions/s/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/acct",
        "subject": "/blobServices/default/containers/datasets/blobs/a", "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2026-09-10T15:48:50.9584103Z", "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": blob_created(url, api), "dataVersion": "", "metadataVersion": "1",
    })
}

/// The same event as a CloudEvent.
pub(crate) fn cloud_event(url: &str, api: &str) -> Value {
    json!({
        "specversion": "1.0", "source": "/subscriptions/s/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/acct",
        "subject": "/blobServices/default/containers/datasets/blobs/a", "type": "Microsoft.Storage.BlobCreated",
        "time": "2026-09-10T15:48:50.9584103Z", "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": blob_created(url, api),
    })
}

/// The `data` of a BlobCreated event.
fn blob_created(url: &str, api: &str) -> Value {
    let size = if api == "CreateFile" { 0 } else { 157_286_400 };
    json!({
        "api": api, "clientRequestId": "6d79dbfb-0e37-4fc4-981f-442c9ca65760",
        "requestId": "831e1650-001e-001b-66ab-eeb76e000000", "eTag": "\"0x8D4BCC2E4835CD0\"",
        "contentType": "application/octet-stream", "contentLength": size, "blobType": "BlockBlob",
        "accessTier": "Default", "url": url, "sequencer": "00000000000004420000000000028963",
        "storageDiagnostics": {"batchId": "b68529f3-68cd-4744-baa4-3c0498ec19f0"},
    })
}

/// An eventGridTrigger. The host copies the event's `data` into the metadata.
pub(crate) fn event_grid_trigger(event: &Value) -> Value {
    json!({"Data": {"event": event}, "Metadata": {"data": event["data"], "sys": sys("OnEvent")}})
}

/// An eventGridTrigger of cardinality many. The host passes the array of events as a JSON string.
pub(crate) fn event_grid_trigger_many(events: &[Value]) -> Value {
    json!({"Data": {"events": Value::from(events).to_string()}, "Metadata": {"sys": sys("OnEvents")}})
}

/// A queueTrigger. If the message is a JSON object, the host copies its members into the metadata, where they can
/// overwrite the host's own.
pub(crate) fn queue_trigger(message: &str) -> Value {
    let mut metadata = json!({
        "DequeueCount": "1", "ExpirationTime": "2026-09-17T15:49:10+00:00",
        "Id": in_json("5f1f4a06-4b56-4b6d-a31c-2f2e2f1d2c4b"), "InsertionTime": "2026-09-10T15:49:10+00:00",
        "NextVisibleTime": "2026-09-10T15:59:10+00:00", "PopReceipt": in_json("AgAAAAMAAAAAAAAA"), "sys": sys("q"),
    });
    copy_members(message, &mut metadata);
    json!({"Data": {"item": in_json(message)}, "Metadata": metadata})
}

/// Copies the members of a JSON object, except arrays, into the metadata, as the host does.
fn copy_members(text: &str, metadata: &mut Value) {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        return;
    };
    for (name, value) in members.into_iter().filter(|(_, value)| !value.is_array()) {
        metadata[name] = match &value {
            Value::String(text) => in_json(text),
            _ => value,
        };
    }
}

/// An httpTrigger without forwarding of HTTP requests.
pub(crate) fn http_trigger(body: &str) -> Value {
    let request = json!({
        "Url": "https://app.azurewebsites.net/api/replay?x=1", "Method": "POST", "Query": {"x": "1"},
        "Headers": {"Content-Type": ["application/json"], "Host": ["app.azurewebsites.net"]}, "Params": {},
        "Identities": [{"AuthenticationType": null, "IsAuthenticated": false, "Claims": [], "Label": null, "Name": null}],
        "Body": body,
    });
    let mut metadata =
        json!({"Query": {"x": "1"}, "Headers": {"Content-Type": "application/json"}, "sys": sys("replay")});
    copy_members(body, &mut metadata);
    json!({"Data": {"req": request}, "Metadata": metadata})
}

/// A timerTrigger.
pub(crate) fn timer_trigger() -> Value {
    let status = json!({
        "Last": "2026-09-10T15:45:00+00:00", "Next": "2026-09-10T15:50:00+00:00",
        "LastUpdated": "2026-09-10T15:45:00+00:00",
    });
    let timer = json!({"Schedule": {"AdjustForDST": true}, "ScheduleStatus": status, "IsPastDue": false});
    json!({"Data": {"timer": timer}, "Metadata": {"sys": sys("sweep")}})
}

/// A string as the host passes it: as JSON text inside a JSON string. Objects, bytes and dates are passed differently.
pub(crate) fn in_json(text: &str) -> Value {
    Value::from(text).to_string().into()
}

/// The member `sys`, which the host adds to the metadata of every trigger.
fn sys(method: &str) -> Value {
    json!({"MethodName": method, "UtcNow": "2026-09-10T15:49:10.1234567Z", "RandGuid": "6e8c7ad2-93e6-4c8e-8b6c-8f9a9a3e0f7d"})
}
