//! `TENANTS`: which tenants may drop, where they may drop, and the settings that a tenant overrides.
//!
//! The short form is a comma-separated list of `tenantId` or `tenantId=container/prefix`. The JSON form, in the setting
//! itself or in a file that it names, can also override settings, by the names that they have as app settings:
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

use super::{
    Settings,
    parse::{FromSetting, ParseError},
};
use crate::drop::{
    DropPath, TenantId,
    tenant::{InvalidTenants, Tenants, parse_prefix},
};

/// The settings of a sink. A tenant that overrides one of them has a sink of its own.
pub(super) const SINK_SETTINGS: [&str; 9] = [
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

/// The other settings that a tenant may override.
const FILE_SETTINGS: [&str; 12] = [
    "COLUMNS",
    "ENCRYPTED_COLUMNS",
    "COLUMN_CIPHER",
    "ROW_VALUES",
    "FILE_LAYOUT",
    "FILE_CIPHER",
    "BAD_ROWS_ALLOWED",
    "MAX_ROW_BYTES",
    "MAX_ROW_DEPTH",
    "BATCH_ROWS",
    "BATCH_BYTES",
    "IN_FLIGHT",
];

/// `TENANTS`, parsed.
pub(super) struct TenantList {
    /// Who may drop, and where.
    pub(super) tenants: Tenants,
    /// The settings that each tenant overrides; those of the short form override none.
    pub(super) overrides: BTreeMap<TenantId, Settings>,
}

impl FromSetting for TenantList {
    const EXPECTED: &'static str = "a comma-separated list of tenantId or tenantId=container/prefix, or a JSON object by \
                                    tenantId, or @ and the path of a file with this JSON";

    fn from_setting(text: &str) -> Result<Self, ParseError> {
        if let Some(file) = text.strip_prefix('@') {
            let json = std::fs::read_to_string(file)
                .map_err(|error| ParseError::Because(format!("cannot read `{file}`: {error}")))?;
            return from_json(&json).map_err(|problem| ParseError::Because(format!("`{file}`: {problem}")));
        }
        if text.starts_with('{') {
            return from_json(text).map_err(ParseError::Because);
        }
        let tenants = text.parse().map_err(|error: InvalidTenants| ParseError::Because(error.to_string()))?;
        Ok(Self { tenants, overrides: BTreeMap::new() })
    }
}

/// The members of a JSON object, in order and with duplicates. A map would keep only the last of two equal names.
struct Members<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for MembersVisitor<T> {
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
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

/// Parses the JSON form; the error lists all problems and quotes no value, because it may be a secret.
fn from_json(text: &str) -> Result<TenantList, String> {
    let Members(entries) = serde_json::from_str::<Members<Members<Value>>>(text).map_err(|error| {
        // The parser's own message may quote a value.
        let (line, column) = (error.line(), error.column());
        format!("line {line}, column {column}: not JSON, or not an object of objects by tenantId")
    })?;
    let mut locations = Vec::new();
    let mut overrides = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, Members(members)) in entries {
        let tenant = match name.parse::<TenantId>() {
            Ok(tenant) => tenant,
            Err(error) => {
                problems.push(format!("`{name}`: {error}"));
                continue;
            }
        };
        let mut entry = Entry::default();
        for (member, value) in members {
            if let Err(problem) = entry.add(&member, value) {
                problems.push(format!("`{name}`: {problem}"));
            }
        }
        if overrides.insert(tenant, entry.settings).is_some() {
            problems.push(format!("`{name}`: appears twice"));
        }
        if entry.paths.is_empty() {
            locations.push((tenant, None));
        }
        locations.extend(entry.paths.into_iter().map(|path| (tenant, Some(path))));
    }
    if locations.is_empty() && problems.is_empty() {
        problems.push("contains no tenant".into());
    }
    if problems.is_empty() {
        Ok(TenantList { tenants: Tenants::new(locations), overrides })
    } else {
        Err(problems.join("; "))
    }
}

/// The entry of one tenant.
#[derive(Default)]
struct Entry {
    /// Where the tenant may drop. If empty: at any path with its id as container or folder.
    paths: Vec<DropPath>,
    /// The settings that the tenant overrides.
    settings: Settings,
}

impl Entry {
    /// Adds a member of the JSON object: `path` or a setting.
    fn add(&mut self, name: &str, value: Value) -> Result<(), String> {
        if name == "path" {
            return self.add_paths(value);
        }
        if !SINK_SETTINGS.contains(&name) && !FILE_SETTINGS.contains(&name) {
            let names = SINK_SETTINGS.into_iter().chain(FILE_SETTINGS).collect::<Vec<_>>().join(", ");
            return Err(format!("`{name}` is not a setting that a tenant can override: expected path, {names}"));
        }
        if self.settings.get(name).is_some() {
            return Err(format!("`{name}` appears twice"));
        }
        let text = match value {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(format!("`{name}` is not a string, a number, true or false"));
            }
        };
        if text.trim().is_empty() {
            // A blank setting counts as not set, so the app's value would silently apply.
            return Err(format!("`{name}` is blank: remove it, or give it a value"));
        }
        self.settings.set(name, text);
        Ok(())
    }

    fn add_paths(&mut self, value: Value) -> Result<(), String> {
        if !self.paths.is_empty() {
            return Err("`path` appears twice".into());
        }
        let paths = if let Value::Array(paths) = value { paths } else { vec![value] };
        if paths.is_empty() {
            return Err("`path` is an empty list: remove it, or give a path".into());
        }
        for path in paths {
            let text = path.as_str().ok_or("`path` is not a string or a list of strings")?;
            self.paths.push(parse_prefix(text)?);
        }
        Ok(())
    }
}
