//! The blobs that a post is about, whichever trigger sent it.
//!
//! Knows the shapes of the host's payloads, of Event Grid events and of CloudEvents. Whether an address is one of ours is
//! [`Store::blob_at`](crate::store::Store::blob_at)'s to say: anybody may have written it.
//!
//! The host wraps values as it likes: an object is sent as it is, bytes in Base64, and everything else as a string of JSON,
//! sometimes of JSON in JSON. So every value is unwrapped until an event shows, or nothing.

mod created;
#[cfg(test)]
mod tests;

use base64::{Engine, engine::general_purpose::STANDARD};
pub use created::{BlobUrl, Ignored};
use serde_json::{Map, Value};

use crate::one_line::one_line;

/// How often a value is unwrapped: twice is what the host does, and once more for a sender who did it as well.
const LAYERS: usize = 4;

/// What a post says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The blobs that were created, in the order of the post.
    pub created: Vec<BlobUrl>,
    /// Events that are not about a blob that was created, or about an empty one.
    pub ignored: Vec<Ignored>,
    /// Whether a blob trigger sent the blob's content: `supportsDeferredBinding` did not take effect, and the host loads
    /// every blob into its memory.
    pub deferred_binding_off: bool,
}

/// A post that names no blob.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the post to `{function}` names no blob: expected a blob trigger's Metadata.Uri, an Event Grid event or a CloudEvent \
     with data.url, found {found}"
)]
pub struct NoBlob {
    /// The function that it was posted to.
    pub function: String,
    /// What was there, without its content.
    pub found: String,
}

/// Reads the addresses of blobs out of a post to `function`.
///
/// `Metadata.Uri` counts for blob triggers alone. The host copies the members of a queue message or of an http body into
/// `Metadata`, so that their author could write a `Uri` there: where `Data` holds an event, the event counts, and where it
/// holds anything else that is no blob, nothing does.
pub fn blob_urls(function: &str, reduced: &Value) -> Result<Invocation, NoBlob> {
    let no_blob = || NoBlob { function: one_line(function, 100), found: found(reduced) };
    if let Some(events) = events_in(reduced, LAYERS) {
        return created::read(&events).ok_or_else(no_blob);
    }
    let values: Vec<Held> = match reduced.get("Data") {
        Some(Value::Object(data)) => data.values().map(Held::of).collect(),
        _ => Vec::new(),
    };
    let metadata = Metadata::of(reduced);
    if let Some(url) = metadata.blob_trigger(&values) {
        return Ok(Invocation {
            created: vec![BlobUrl::new(&url)],
            deferred_binding_off: values.iter().any(Held::is_content),
            ..Invocation::default()
        });
    }
    let events: Vec<Value> = values.into_iter().flat_map(Held::into_events).collect();
    created::read(&events).ok_or_else(no_blob)
}

/// What one binding of `Data` holds.
enum Held {
    /// Events, one way or another.
    Events(Vec<Value>),
    /// Base64 of events: an event as bytes, or a blob whose content is one.
    EventsAsBytes(Vec<Value>),
    /// The content of a blob, as bytes.
    Content,
    /// The descriptor of a blob; its name is lost on the way.
    Descriptor,
    /// Nothing, or an object that we do not know: what a descriptor might become in a later version.
    Unknown,
    /// Something else, which somebody else wrote: a message, a request.
    Foreign,
}

impl Held {
    fn of(value: &Value) -> Self {
        if let Value::String(text) = value
            && unwrapped(text).is_none()
        {
            return match from_base64(text).and_then(|inner| events_in(&inner, LAYERS)) {
                Some(events) => Self::EventsAsBytes(events),
                None => Self::Content,
            };
        }
        match (events_in(value, LAYERS), value) {
            (Some(events), _) => Self::Events(events),
            (None, Value::Null) => Self::Unknown,
            (None, Value::Object(members)) => match request_body(members) {
                Some(body) => events_in(body, LAYERS).map_or(Self::Foreign, Self::Events),
                None if members.contains_key("Source") => Self::Descriptor,
                None => Self::Unknown,
            },
            (None, _) => Self::Foreign,
        }
    }

    /// Whether this is what a blob trigger sends where deferred binding is off.
    fn is_content(&self) -> bool {
        matches!(self, Self::Content | Self::EventsAsBytes(_))
    }

    fn into_events(self) -> Vec<Value> {
        match self {
            Self::Events(events) | Self::EventsAsBytes(events) => events,
            Self::Content | Self::Descriptor | Self::Unknown | Self::Foreign => Vec::new(),
        }
    }
}

/// The host's `Metadata`.
struct Metadata<'a>(Option<&'a Map<String, Value>>);

impl<'a> Metadata<'a> {
    fn of(post: &'a Value) -> Self {
        Self(post.get("Metadata").and_then(Value::as_object))
    }

    /// `Uri`, where a blob trigger wrote it: `values` are what `Data` holds.
    fn blob_trigger(&self, values: &[Held]) -> Option<String> {
        let url = self.uri()?;
        let from_a_queue = self.has("PopReceipt") || self.has("DequeueCount");
        let may_be_a_blob = |held: &Held| match held {
            Held::Content | Held::Descriptor => true,
            // Which properties there are, and in which shape, depends on the version of the host's extension.
            Held::Unknown | Held::EventsAsBytes(_) => self.has("Properties"),
            Held::Events(_) | Held::Foreign => false,
        };
        (!from_a_queue && values.iter().all(may_be_a_blob)).then_some(url)
    }

    /// `Uri` as text: a string of JSON by the host's rule, a plain one by its documentation.
    fn uri(&self) -> Option<String> {
        let text = self.0?.get("Uri")?.as_str()?;
        let url = serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
        (!url.trim().is_empty()).then(|| url.trim().to_owned())
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_some_and(|members| members.contains_key(name))
    }
}

/// The events in `value`: one, a list with one in it, or text with either in it.
fn events_in(value: &Value, layers: usize) -> Option<Vec<Value>> {
    match value {
        Value::Object(_) if created::is_event(value) => Some(vec![value.clone()]),
        Value::Array(list) if list.iter().any(created::is_event) => Some(list.clone()),
        Value::String(text) if layers > 0 => {
            let inner = unwrapped(text).or_else(|| from_base64(text))?;
            events_in(&inner, layers - 1)
        }
        _ => None,
    }
}

/// The string, list or object that `text` is the JSON of. Base64 can spell `null` and `1234`, so those are none.
fn unwrapped(text: &str) -> Option<Value> {
    let value = serde_json::from_str(text).ok()?;
    matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_)).then_some(value)
}

fn from_base64(text: &str) -> Option<Value> {
    serde_json::from_slice(&STANDARD.decode(text.trim()).ok()?).ok()
}

/// The body of an http request, where `members` are one.
fn request_body(members: &Map<String, Value>) -> Option<&Value> {
    let is_request = members.contains_key("Method") && members.contains_key("Url");
    is_request.then(|| members.get("Body").unwrap_or(&Value::Null))
}

/// What a post is, for a person who looks for the reason: names and kinds, no content.
fn found(post: &Value) -> String {
    let Value::Object(members) = post else {
        return kind(post).into();
    };
    let named = |prefix: &str, members: &Map<String, Value>| {
        let named = members.iter().map(|(name, value)| format!("{prefix}{name} ({})", kind(value)));
        named.collect::<Vec<_>>().join(", ")
    };
    let list = match members.get("Data") {
        Some(Value::Object(data)) => named("Data.", data),
        _ => named("", members),
    };
    match list.as_str() {
        "" => "an empty object".into(),
        list => one_line(list, 200),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "an empty text, or one too long to be kept",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
