//! Parses Event Grid events and CloudEvents of storage accounts.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use super::nested::{MAX_LAYERS, json_in, json_in_base64};
use crate::one_line::one_line;

/// The only event type that is processed.
const BLOB_CREATED: &str = "Microsoft.Storage.BlobCreated";

/// The URL of a blob as an event names it. It is not trusted yet.
///
/// `Display` and `Debug` omit the query string, which may be a SAS.
#[derive(Clone, PartialEq, Eq)]
pub struct EventUrl(String);

impl EventUrl {
    /// The URL `url`. A URL at the `dfs` endpoint of a hierarchical account becomes that of the same blob at the `blob`
    /// endpoint.
    pub fn new(url: &str) -> Self {
        Self(at_blob_endpoint(url).into_owned())
    }

    /// The whole URL, including its query string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.split(['?', '#']).next().unwrap_or_default();
        f.write_str(&one_line(shown, 2_000))
    }
}

impl fmt::Debug for EventUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventUrl({self})")
    }
}

/// Why an event is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// The event has another type than `BlobCreated`: this one.
    OtherType(String),
    /// A file of a hierarchical account was opened and is still empty. Another event follows once it has content.
    EmptyFile,
    /// The event has no type or no URL.
    Incomplete,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherType(event_type) => write!(f, "an event of type `{event_type}`"),
            Self::EmptyFile => f.write_str("an event of a file that is still empty"),
            Self::Incomplete => f.write_str("an event without a type or a URL"),
        }
    }
}

/// The events of one payload.
pub(super) struct StorageEvents {
    /// The blobs that were created, in the order of the events.
    pub(super) created: Vec<EventUrl>,
    /// The events that are ignored.
    pub(super) ignored: Vec<Ignored>,
}

/// Whether `value` is an Event Grid event or a CloudEvent of any type.
pub(super) fn is_event(value: &Value) -> bool {
    let has_text = |name| member(value, name).is_some_and(Value::is_string);
    has_text("eventType") || has_text("type") && (has_text("specversion") || has_text("source"))
}

/// The part of an event that is kept: the URL of the blob that it announces, or why it is ignored.
pub(super) type Event = Result<EventUrl, Ignored>;

/// Divides `events` into created blobs and ignored events. `None` if there are no events, or if an event is incomplete
/// and no other event names a blob: the caller reports an error instead of ignoring the events silently.
pub(super) fn classify(events: Vec<Event>) -> Option<StorageEvents> {
    let has_events = !events.is_empty();
    let (mut created, mut ignored) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Ok(url) => created.push(url),
            Err(reason) => ignored.push(reason),
        }
    }
    let is_understood = !created.is_empty() || !ignored.contains(&Ignored::Incomplete);
    (is_understood && has_events).then_some(StorageEvents { created, ignored })
}

/// Parses an event.
pub(super) fn parse_event(event: &Value) -> Event {
    let event_type = member(event, "eventType").or_else(|| member(event, "type"));
    let event_type = event_type.and_then(Value::as_str).ok_or(Ignored::Incomplete)?;
    if !event_type.eq_ignore_ascii_case(BLOB_CREATED) {
        return Err(Ignored::OtherType(one_line(event_type, 100)));
    }
    let data = data_of(event).ok_or(Ignored::Incomplete)?;
    if is_still_empty(&data) {
        return Err(Ignored::EmptyFile);
    }
    let url = |name| text(&data, name).filter(|url| !url.trim().is_empty());
    // In events of the dfs endpoint, `url` may name a host that our credentials are not for. `blobUrl` never does.
    let url = url("blobUrl").or_else(|| url("url")).ok_or(Ignored::Incomplete)?;
    Ok(EventUrl::new(url.trim()))
}

/// The `data` of an event, which may be JSON in a string, or the `data_base64` of a CloudEvent.
fn data_of(event: &Value) -> Option<Cow<'_, Value>> {
    let mut data = match member(event, "data") {
        Some(data) => Cow::Borrowed(data),
        None => Cow::Owned(json_in_base64(text(event, "data_base64")?)?),
    };
    for _ in 0..MAX_LAYERS {
        let Some(inner) = data.as_str().map(json_in) else {
            break;
        };
        data = Cow::Owned(inner?);
    }
    Some(data)
}

/// Whether the event announces a file that was opened and has no content yet.
fn is_still_empty(data: &Value) -> bool {
    let api = text(data, "api").unwrap_or_default();
    let is_empty = member(data, "contentLength").and_then(Value::as_u64) == Some(0);
    api.eq_ignore_ascii_case("CreateFile") || api.eq_ignore_ascii_case("SftpCreate") && is_empty
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    member(value, name)?.as_str()
}

/// The member `name` of an object. The exact spelling takes precedence over other cases.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    let in_any_case = || members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    members.get(name).or_else(|| Some(in_any_case()?.1))
}

/// Converts `https://acct.dfs.core.windows.net/…` to `https://acct.blob.core.windows.net/…`. The path stays as it is,
/// because it must be percent-decoded only once, later.
fn at_blob_endpoint(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.into();
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match host.split_once(".dfs.") {
        Some((account, suffix)) => format!("{scheme}://{account}.blob.{suffix}{path}").into(),
        None => url.into(),
    }
}
