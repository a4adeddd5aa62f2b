//! Finds the blob URLs in the payload of an invocation, whatever trigger sent it.
//!
//! Understands the host's blobTrigger payload, Event Grid events and CloudEvents. The URLs are not trusted: anybody may
//! have written them, so [`WatchedContainers`](crate::drop::containers::WatchedContainers) checks each one.
//!
//! The host encodes values in several ways: an object is sent as it is, bytes as Base64, and everything else as JSON in
//! a string, sometimes twice. Therefore each value is unwrapped until it is an event or cannot be unwrapped further.

mod nested;
mod storage_event;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use self::nested::{MAX_LAYERS, json_in, json_in_base64};
use self::storage_event::{Event, StorageEvents, classify, is_event, parse_event};
pub use self::storage_event::{EventUrl, Ignored};
use crate::one_line::one_line;

/// The blobs that an invocation is about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The blobs that were created, in the order of the payload.
    pub created: Vec<EventUrl>,
    /// The events that are ignored: those of other types, and those of empty files.
    pub ignored: Vec<Ignored>,
    /// Whether a blobTrigger sent the content of the blob: `supportsDeferredBinding` is not in effect, and the host
    /// loads every blob into its memory.
    pub deferred_binding_off: bool,
}

impl From<StorageEvents> for Invocation {
    fn from(events: StorageEvents) -> Self {
        Self { created: events.created, ignored: events.ignored, deferred_binding_off: false }
    }
}

/// The payload names no blob. The invocation is answered 200, because repeating it would not help.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the payload for `{function}` names no blob: expected a blobTrigger's Metadata.Uri, an Event Grid event or a CloudEvent \
     with data.url, found {found}"
)]
pub struct NoBlobUrl {
    /// The name of the function.
    pub function: String,
    /// The names and kinds of the values found, without their content.
    pub found: String,
}

/// Finds the blob URLs in `payload`, which was posted to `function`.
///
/// Uses `Metadata.Uri` for blobTriggers only: the host copies the members of a queue message or an HTTP body into
/// `Metadata`, so their author could have written a `Uri` there. If `Data` contains events, their URLs are used. If it
/// contains anything else that does not come from a blobTrigger, the payload names no blob.
pub fn parse_invocation(function: &str, payload: &Value) -> Result<Invocation, NoBlobUrl> {
    let no_blob_url = || NoBlobUrl { function: one_line(function, 100), found: describe(payload) };
    if let Some(events) = find_events(payload, MAX_LAYERS) {
        return classify(events).map(Invocation::from).ok_or_else(no_blob_url);
    }
    let bindings: Vec<BindingData> = match payload.get("Data") {
        Some(Value::Object(data)) => data.values().map(BindingData::of).collect(),
        _ => Vec::new(),
    };
    if let Some(url) = Metadata::of(payload).blob_trigger_url(&bindings) {
        return Ok(Invocation {
            created: vec![EventUrl::new(&url)],
            deferred_binding_off: bindings.iter().any(BindingData::is_content),
            ..Invocation::default()
        });
    }
    let events: Vec<Event> = bindings.into_iter().flat_map(BindingData::into_events).collect();
    classify(events).map(Invocation::from).ok_or_else(no_blob_url)
}

/// The value of one binding in `Data`.
enum BindingData {
    /// Events, in any encoding except plain Base64.
    Events(Vec<Event>),
    /// Base64 of events: an event as bytes, or a blob whose content is an event.
    EventsAsBytes(Vec<Event>),
    /// The content of a blob as Base64.
    Content,
    /// The descriptor of a blob. It does not contain the blob's name.
    Descriptor,
    /// `null` or an unknown object, which may be the descriptor of a later version of the host.
    Unknown,
    /// A value that somebody else wrote, such as a message or a request.
    Other,
}

impl BindingData {
    fn of(value: &Value) -> Self {
        if let Value::String(text) = value
            && json_in(text).is_none()
        {
            return match json_in_base64(text).and_then(|inner| find_events(&inner, MAX_LAYERS)) {
                Some(events) => Self::EventsAsBytes(events),
                None => Self::Content,
            };
        }
        if let Some(events) = find_events(value, MAX_LAYERS) {
            return Self::Events(events);
        }
        match value {
            Value::Null => Self::Unknown,
            Value::Object(members) => match request_body(members) {
                Some(body) => find_events(body, MAX_LAYERS).map_or(Self::Other, Self::Events),
                None if members.contains_key("Source") => Self::Descriptor,
                None => Self::Unknown,
            },
            _ => Self::Other,
        }
    }

    /// Whether this is what a blobTrigger sends without deferred binding.
    fn is_content(&self) -> bool {
        matches!(self, Self::Content | Self::EventsAsBytes(_))
    }

    fn into_events(self) -> Vec<Event> {
        match self {
            Self::Events(events) | Self::EventsAsBytes(events) => events,
            Self::Content | Self::Descriptor | Self::Unknown | Self::Other => Vec::new(),
        }
    }
}

/// The `Metadata` of the payload.
struct Metadata<'a>(Option<&'a Map<String, Value>>);

impl<'a> Metadata<'a> {
    fn of(payload: &'a Value) -> Self {
        Self(payload.get("Metadata").and_then(Value::as_object))
    }

    /// The `Uri` that a blobTrigger wrote; `None` if another trigger may have written it, judged by its bindings.
    fn blob_trigger_url(&self, bindings: &[BindingData]) -> Option<String> {
        let url = self.uri()?;
        let is_queue_message = self.has("PopReceipt") || self.has("DequeueCount");
        let may_be_blob = |binding: &BindingData| match binding {
            BindingData::Content | BindingData::Descriptor => true,
            // The members of `Properties` and its shape depend on the version of the host's extension.
            BindingData::Unknown | BindingData::EventsAsBytes(_) => self.has("Properties"),
            BindingData::Events(_) | BindingData::Other => false,
        };
        (!is_queue_message && bindings.iter().all(may_be_blob)).then_some(url)
    }

    /// `Uri` as plain text. The host sends it as JSON in a string; its documentation shows a plain string.
    fn uri(&self) -> Option<String> {
        let text = self.0?.get("Uri")?.as_str()?;
        let url = serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
        (!url.trim().is_empty()).then(|| url.trim().to_owned())
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_some_and(|members| members.contains_key(name))
    }
}

/// The events in `value`: a single event, a list that contains an event, or a string with up to `layers` encodings of
/// either. Parses the events immediately, so that their JSON does not stay in memory.
fn find_events(value: &Value, layers: usize) -> Option<Vec<Event>> {
    match value {
        Value::Object(_) if is_event(value) => Some(vec![parse_event(value)]),
        Value::Array(list) if list.iter().any(is_event) => Some(list.iter().map(parse_event).collect()),
        Value::String(text) if layers > 0 => {
            let inner = json_in(text).or_else(|| json_in_base64(text))?;
            find_events(&inner, layers - 1)
        }
        _ => None,
    }
}

/// The body of an HTTP request; `None` if `members` are not those of a request.
fn request_body(members: &Map<String, Value>) -> Option<&Value> {
    let is_request = members.contains_key("Method") && members.contains_key("Url");
    is_request.then(|| members.get("Body").unwrap_or(&Value::Null))
}

/// Names and kinds of the values in `payload`, for an error message that does not show their content.
fn describe(payload: &Value) -> String {
    let Value::Object(members) = payload else {
        return kind(payload).into();
    };
    let (prefix, members) = match members.get("Data") {
        Some(Value::Object(data)) => ("Data.", data),
        _ => ("", members),
    };
    if members.is_empty() {
        return "an empty object".into();
    }
    let descriptions: Vec<String> =
        members.iter().map(|(name, value)| format!("{prefix}{name} ({})", kind(value))).collect();
    one_line(&descriptions.join(", "), 200)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "a string that is empty or was too long to keep",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
