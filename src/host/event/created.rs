//! Events: which blob was created, and which events are about something else.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use super::{Invocation, LAYERS, from_base64, unwrapped};
use crate::one_line::one_line;

/// The one type of event that is acted on.
const BLOB_CREATED: &str = "Microsoft.Storage.BlobCreated";

/// The address of a blob as somebody wrote it. Prints without its query string, which may be a key to the account.
#[derive(Clone, PartialEq, Eq)]
pub struct BlobUrl(String);

impl BlobUrl {
    /// The address `url`; of a hierarchical account's `dfs` endpoint, the same blob's at the `blob` endpoint.
    pub fn new(url: &str) -> Self {
        Self(at_blob_endpoint(url).into_owned())
    }

    /// The address, whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.split(['?', '#']).next().unwrap_or_default();
        f.write_str(&one_line(shown, 2_000))
    }
}

impl fmt::Debug for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobUrl({self})")
    }
}

/// An event that nothing is done about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// It is about something else than a blob that was created: its type.
    OtherType(String),
    /// A hierarchical account tells of a file that was just opened, and is still empty. Its content has an event of its own.
    EmptyFile,
    /// It has no type, or no address.
    Unreadable,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherType(kind) => write!(f, "an event of type `{kind}`"),
            Self::EmptyFile => f.write_str("an event of a file that is still empty"),
            Self::Unreadable => f.write_str("an event without a type or an address"),
        }
    }
}

/// Whether `value` is an Event Grid event or a CloudEvent, of whatever type.
pub(super) fn is_event(value: &Value) -> bool {
    let is_text = |name| field(value, name).is_some_and(Value::is_string);
    is_text("eventType") || is_text("type") && (is_text("specversion") || is_text("source"))
}

/// Reads events. `None` where there is none, or where an address is missing and no other event has one: the host is
/// better told that than nothing.
pub(super) fn read(events: &[Value]) -> Option<Invocation> {
    let mut invocation = Invocation::default();
    for event in events {
        match created(event) {
            Ok(url) => invocation.created.push(url),
            Err(why) => invocation.ignored.push(why),
        }
    }
    let says_something = !invocation.created.is_empty() || !invocation.ignored.contains(&Ignored::Unreadable);
    (says_something && !events.is_empty()).then_some(invocation)
}

fn created(event: &Value) -> Result<BlobUrl, Ignored> {
    let kind = field(event, "eventType").or_else(|| field(event, "type"));
    let kind = kind.and_then(Value::as_str).ok_or(Ignored::Unreadable)?;
    if !kind.eq_ignore_ascii_case(BLOB_CREATED) {
        return Err(Ignored::OtherType(one_line(kind, 100)));
    }
    let data = data_of(event).ok_or(Ignored::Unreadable)?;
    if is_still_empty(&data) {
        return Err(Ignored::EmptyFile);
    }
    let address = |name| text(&data, name).filter(|url| !url.trim().is_empty());
    // At the dfs endpoint `url` may name a host that our credentials are not for; `blobUrl`, when there, never does.
    let url = address("blobUrl").or_else(|| address("url")).ok_or(Ignored::Unreadable)?;
    Ok(BlobUrl::new(url.trim()))
}

/// `data`, which may be text on its way, or the `data_base64` of a CloudEvent.
fn data_of(event: &Value) -> Option<Cow<'_, Value>> {
    let mut data = match field(event, "data") {
        Some(data) => Cow::Borrowed(data),
        None => Cow::Owned(from_base64(text(event, "data_base64")?)?),
    };
    for _ in 0..LAYERS {
        let Some(inner) = data.as_str().map(unwrapped) else {
            break;
        };
        data = Cow::Owned(inner?);
    }
    Some(data)
}

/// Whether the event tells of a file that was opened: its writer has yet to write.
fn is_still_empty(data: &Value) -> bool {
    let api = text(data, "api").unwrap_or_default();
    let is_empty = field(data, "contentLength").and_then(Value::as_u64) == Some(0);
    api.eq_ignore_ascii_case("CreateFile") || api.eq_ignore_ascii_case("SftpCreate") && is_empty
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    field(value, name)?.as_str()
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.as_object()?;
    let without_case = || members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    members.get(name).or_else(|| Some(without_case()?.1))
}

/// `https://acct.dfs.core.windows.net/…` as `https://acct.blob.core.windows.net/…`. The path is not touched: who decodes it
/// decodes it once.
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
