//! The messages about survey attributes.
//!
//! An import is a cycle's attributes, computed from one drop with one revision of the definitions. The id of an import
//! derives from its [`ImportVersion`], and the ids of its messages derive from the id of the import. So an import that
//! is sent again after a crash has the same ids.

use std::{num::NonZeroUsize, ops::Range};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{DropFacts, Message, MessageId, json, size};
use crate::{
    attributes::{Attribute, Definitions, RANGES},
    directory::DirectorySnapshot,
    drop::TenantId,
    one_line::escape_deceptive,
};

/// The parts from which the id of an import derives.
#[derive(Debug, Clone, Copy)]
pub struct ImportVersion<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The survey program.
    pub program: &'a str,
    /// The cycle.
    pub cycle: &'a str,
    /// The revision of the definitions.
    pub revision: u64,
    /// How often a person has asked for this import again.
    pub run: u32,
    /// The path of the drop.
    pub drop: &'a str,
    /// The versions of the drop's files, as a text that is the same for the same versions.
    pub files: &'a str,
    /// The directory that the people are joined to.
    pub directory: Option<&'a DirectorySnapshot>,
}

impl ImportVersion<'_> {
    /// The id of the import: `imp_` and 32 hexadecimal digits.
    pub fn id(&self) -> String {
        let (tenant, revision, run) = (self.tenant.to_string(), self.revision.to_string(), self.run.to_string());
        let mut parts = vec!["import", &*tenant, self.program, self.cycle, &*revision, &*run, self.drop, self.files];
        let path = self.directory.map(|directory| directory.path.to_string()).unwrap_or_default();
        if let Some(directory) = self.directory {
            parts.extend([&*path, &*directory.versions]);
        }
        MessageId::hash(&parts).as_str().replacen("msg_", "imp_", 1)
    }
}

/// An import: the members that all of its messages have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportFacts {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The drop that the attributes are computed from.
    pub drop: DropFacts,
    /// The id of the import.
    pub import_id: String,
    /// The survey program.
    pub program: String,
    /// The cycle.
    pub cycle: String,
    /// The revision of the definitions.
    pub revision: u64,
    /// The days whose rows count.
    pub window: WindowFacts,
}

/// The days whose rows count for a cycle, as messages describe them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowFacts {
    /// The first day, as `YYYY-MM-DD`.
    pub start: String,
    /// The day after the last one, as `YYYY-MM-DD`.
    pub end: String,
    /// How many dates in the window have rows.
    pub weeks: u64,
    /// `week` or `month`: what the rows cover.
    pub period: String,
}

/// The number of people in each range of an attribute, null where it is withheld.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeCounts<'a>(pub Vec<(&'a str, [Option<u64>; RANGES])>);

impl Serialize for RangeCounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, counts)| (name, counts)))
    }
}

/// An import that cannot be made: the members of the message about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportFailure {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The drop that the attributes would be computed from.
    pub drop: DropFacts,
    /// The number of the message: see [`Message::attributes_completed`].
    pub sequence: u64,
    /// The survey program.
    pub program: String,
    /// The cycle.
    pub cycle: String,
    /// The revision of the definitions.
    pub revision: u64,
    /// The reason, for programs.
    pub reason: String,
    /// The reason, for people.
    pub message: String,
}

impl Message {
    /// `viva.insights.attributes`: the people `range` of an import. `people` is their JSON text, joined by commas.
    pub fn attributes(import: &ImportFacts, range: Range<u64>, people: &[u8]) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            #[serde(flatten)]
            import: &'a ImportFacts,
            first_person: u64,
            end_person: u64,
        }
        let (first, end) = (range.start.to_string(), range.end.to_string());
        let id = MessageId::hash(&["attributes", &import.import_id, &first, &end]);
        let kind = Self::PEOPLE;
        let mut body = json(&id, kind, Data { import, first_person: range.start, end_person: range.end });
        // The JSON ends in `}}`, which closes `data` and the message. `people` becomes the last member of `data`.
        body.truncate(body.len() - 2);
        body.reserve_exact(people.len() + 16);
        body.extend_from_slice(b",\"people\":[");
        body.extend_from_slice(people);
        body.extend_from_slice(b"]}}");
        Self { body: Bytes::from(body), ..Self::of_drop(id, kind, &import.drop) }
    }

    /// `viva.insights.attributes.completed`: the sink has acknowledged all people of an import. `sequence` rises across
    /// the `completed`, `failed` and `deleted` messages of a tenant, so that receivers can ignore late messages.
    pub fn attributes_completed(import: &ImportFacts, sequence: u64, people: u64, counts: &RangeCounts<'_>) -> Self {
        #[derive(Serialize)]
        struct Data<'a> {
            #[serde(flatten)]
            import: &'a ImportFacts,
            sequence: u64,
            people: u64,
            counts: &'a RangeCounts<'a>,
        }
        let id = MessageId::hash(&["attributes.completed", &import.import_id, &sequence.to_string()]);
        let kind = "viva.insights.attributes.completed";
        let body = json(&id, kind, Data { import, sequence, people, counts }).into();
        Self { body, ..Self::of_drop(id, kind, &import.drop) }
    }

    /// `viva.insights.attributes.failed`: a cycle cannot be imported. If the message would have more than `max_bytes`
    /// bytes, its text is shortened and ends in `…`.
    pub fn attributes_failed(failure: &ImportFailure, max_bytes: Option<NonZeroUsize>) -> Self {
        let (tenant, sequence) = (failure.tenant_id.to_string(), failure.sequence.to_string());
        let id = MessageId::hash(&["attributes.failed", &tenant, &failure.program, &failure.cycle, &sequence]);
        let kind = "viva.insights.attributes.failed";
        let with = |message: String| {
            let body = json(&id, kind, ImportFailure { message, ..failure.clone() }).into();
            Self { body, ..Self::of_drop(id.clone(), kind, &failure.drop) }
        };
        let text = escape_deceptive(&failure.message);
        let message = with(text.to_string());
        let excess = max_bytes.map_or(0, |max| message.body.len().saturating_sub(max.get()));
        if excess == 0 { message } else { with(size::shortened(&text, excess)) }
    }

    /// `viva.insights.attributes.deleted`: receivers delete everything that was imported under the name `attribute`.
    pub fn attributes_deleted(tenant: TenantId, sequence: u64, attribute: &str) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            tenant_id: TenantId,
            sequence: u64,
            attribute: &'a str,
        }
        let id = MessageId::hash(&["attributes.deleted", &tenant.to_string(), &sequence.to_string(), attribute]);
        let kind = "viva.insights.attributes.deleted";
        let body = json(&id, kind, Data { tenant_id: tenant, sequence, attribute }).into();
        Self { body, ..Self::of_tenant(id, kind, tenant) }
    }

    /// `viva.insights.attributes.defined`: the attributes of a tenant, with their ranges and roles. `number` counts the
    /// definitions that receivers were told about, because changed roles do not raise the revision.
    pub fn attributes_defined(tenant: TenantId, revision: u64, number: u64, definitions: &Definitions) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            tenant_id: TenantId,
            revision: u64,
            attributes: Vec<AttributeFacts<'a>>,
        }
        let id = MessageId::hash(&["attributes.defined", &tenant.to_string(), &number.to_string()]);
        let kind = "viva.insights.attributes.defined";
        let attributes = definitions.attributes.iter().map(AttributeFacts).collect();
        let body = json(&id, kind, Data { tenant_id: tenant, revision, attributes }).into();
        Self { body, ..Self::of_tenant(id, kind, tenant) }
    }

    fn of_drop(id: MessageId, kind: &'static str, drop: &DropFacts) -> Self {
        Self { drop: Some(drop.path.clone()), ..Self::of_tenant(id, kind, drop.tenant_id) }
    }

    fn of_tenant(id: MessageId, kind: &'static str, tenant: TenantId) -> Self {
        Self { id, kind, tenant: Some(tenant), drop: None, file: None, body: Bytes::new() }
    }
}

/// An attribute, as messages describe it.
struct AttributeFacts<'a>(&'a Attribute);

impl Serialize for AttributeFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Range<'a> {
            label: &'a str,
            min: Option<Box<RawValue>>,
            max: Option<Box<RawValue>>,
        }
        struct Roles<'a>(&'a [(String, Vec<String>)]);
        impl Serialize for Roles<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|(role, permissions)| (role, permissions)))
            }
        }
        let number = |text: String| RawValue::from_string(text).expect("a decimal is valid JSON");
        let (labels, bounds) = (self.0.labels(), self.0.bounds_as_text());
        let ranges: Vec<Range<'_>> = labels
            .iter()
            .enumerate()
            .map(|(at, label)| Range {
                label,
                min: Some(number(at.checked_sub(1).map_or_else(|| "0".to_owned(), |below| bounds[below].clone()))),
                max: bounds.get(at).cloned().map(number),
            })
            .collect();
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("name", &self.0.name)?;
        map.serialize_entry("unit", &self.0.unit)?;
        map.serialize_entry("ranges", &ranges)?;
        map.serialize_entry("roles", &Roles(&self.0.roles))?;
        map.end()
    }
}
