//! `TENANTS`: who may drop and where, and the settings that a tenant has of its own.
//!
//! A comma list says where each may drop. JSON, in the setting itself or in a file that it names, says as well what differs
//! for one of them, by the names that the settings have everywhere else:
//!
//! ```json
//! {"9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10": {
//!   "path": "contoso", "DELIVER_TO": "https://contoso.example/rows", "WEBHOOK_SECRET": "whsec_…", "BATCH_ROWS": 200}}
//! ```

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::Value;

use super::{Settings, words::Word};
use crate::drop::{
    DropPath, TenantId,
    tenant::{Tenants, parse_prefix},
};

/// The settings that say where rows go. A tenant with one of them has a sink of its own.
pub(super) const OF_THE_SINK: [&str; 9] = [
    "DELIVER_TO",
    "WEBHOOK_SECRET",
    "WEBHOOK_GZIP",
    "WEBHOOK_TIMEOUT",
    "DELIVERY_PATIENCE",
    "SinkStorage",
    "SinkStorage__blobServiceUri",
    "SinkStorage__queueServiceUri",
    "SinkStorage__clientId",
];

/// The other settings that a tenant may have of its own.
const OF_FILES: [&str; 11] = [
    "COLUMNS",
    "ENCRYPTED_COLUMNS",
    "COLUMN_CIPHER",
    "ROW_VALUES",
    "FILE_LAYOUT",
    "FILE_CIPHER",
    "BAD_ROWS_ALLOWED",
    "MAX_ROW_BYTES",
    "BATCH_ROWS",
    "BATCH_BYTES",
    "IN_FLIGHT",
];

/// What `TENANTS` says.
pub(super) struct TenantList {
    pub(super) tenants: Tenants,
    /// What tenants have of their own.
    pub(super) own: BTreeMap<TenantId, Settings>,
}

impl Word for TenantList {
    const EXPECTED: &'static str =
        "a comma list of tenantId or tenantId=container/prefix, or @ and the name of a JSON file of tenants";

    fn read(text: &str) -> Result<Self, Option<String>> {
        if let Some(file) = text.strip_prefix('@') {
            let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read `{file}`: {error}"))?;
            return from_json(&text).map_err(|why| Some(format!("`{file}`: {why}")));
        }
        if text.starts_with('{') {
            return from_json(text).map_err(Some);
        }
        let tenants = text.parse().map_err(|bad: crate::drop::tenant::InvalidTenants| bad.to_string())?;
        Ok(Self { tenants, own: BTreeMap::new() })
    }
}

/// The members of a JSON object in their order. A map would take the last of one name and say nothing.
struct Members<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

fn from_json(text: &str) -> Result<TenantList, String> {
    // What the parser says of a value could be the secret that it stumbled over; where it stumbled is enough.
    let Members(entries) = serde_json::from_str::<Members<Members<Value>>>(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("line {line}, column {column}: not JSON, or no object of objects by tenantId")
    })?;
    let (mut places, mut own, mut bad) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (name, Members(members)) in entries {
        let mut complain = |why: String| bad.push(format!("`{name}`: {why}"));
        let tenant = match name.parse::<TenantId>() {
            Ok(tenant) => tenant,
            Err(no_guid) => {
                complain(no_guid.to_string());
                continue;
            }
        };
        let mut entry = Entry::default();
        for (name, value) in members {
            entry.take(&name, value).unwrap_or_else(&mut complain);
        }
        if own.insert(tenant, entry.settings).is_some() {
            complain("is there twice".into());
        }
        places
            .extend(if entry.places.is_empty() { vec![None] } else { entry.places }.into_iter().map(|at| (tenant, at)));
    }
    if places.is_empty() && bad.is_empty() {
        bad.push("names no tenant".into());
    }
    if bad.is_empty() { Ok(TenantList { tenants: Tenants::new(places), own }) } else { Err(bad.join("; ")) }
}

/// One tenant's entry.
#[derive(Default)]
struct Entry {
    /// Where it may drop; anywhere with its id in the path when there is none.
    places: Vec<Option<DropPath>>,
    settings: Settings,
}

impl Entry {
    fn take(&mut self, name: &str, value: Value) -> Result<(), String> {
        let no_text = || format!("`{name}` is neither text nor number nor true or false");
        match name {
            "path" if !self.places.is_empty() => return Err("`path` is there twice".into()),
            "path" => {
                let paths = if let Value::Array(paths) = value { paths } else { vec![value] };
                if paths.is_empty() {
                    return Err("`path` is an empty list: leave it out, or say where".into());
                }
                for path in paths {
                    let path = parse_prefix(path.as_str().ok_or("`path` is neither text nor a list of texts")?)?;
                    self.places.push(Some(path));
                }
            }
            _ if self.settings.get(name).is_some() => return Err(format!("`{name}` is there twice")),
            _ if OF_THE_SINK.contains(&name) || OF_FILES.contains(&name) => {
                let text = text(value).ok_or_else(no_text)?;
                if text.trim().is_empty() {
                    // Blank is not set, and what holds for all would take its place without a word.
                    return Err(format!("`{name}` is blank: leave it out, or say what"));
                }
                self.settings.set(name, text);
            }
            _ => {
                let names = OF_THE_SINK.into_iter().chain(OF_FILES).collect::<Vec<_>>().join(", ");
                return Err(format!(
                    "`{name}` is not a setting that a tenant may have of its own: expected path, {names}"
                ));
            }
        }
        Ok(())
    }
}

/// A setting's text.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
