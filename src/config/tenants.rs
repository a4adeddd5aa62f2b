//! `TENANTS`: which tenants may drop, where they may drop, and the settings that a tenant overrides.
//!
//! The short form is a comma-separated list of `tenantId` or `tenantId=container/prefix`. The JSON form, in the setting
//! itself or in a file that it names, can also override settings, by the names that they have as app settings:
//!
//! ```json
//! {"9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10": {
//!   "path": "contoso", "DELIVER_TO": "https://contoso.example/rows", "WEBHOOK_SECRET": "whsec_…", "BATCH_ROWS": 200}}
//! ```

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    Settings,
    parse::{FromSetting, ParseError},
    row_columns::{self, COLUMNS, ROW_COLUMNS},
    service_bus::SERVICE_BUS,
};
use crate::{
    drop::{
        DropPath, TenantId,
        tenant::{InvalidTenants, Tenants, parse_prefix},
    },
    similar::most_similar,
};

/// The member that lets the drops of a tenant wait.
const PAUSED: &str = "paused";

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether an error may quote an unknown name. Secrets are not made of letters and underscores alone.
fn is_word(name: &str) -> bool {
    name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

/// The problem with the member at `position`, which is not a setting of a tenant.
fn unknown_member(name: &str, position: usize) -> String {
    let names = ["path", PAUSED].into_iter().chain(SINK_SETTINGS).chain(FILE_SETTINGS);
    let nearest = most_similar(name, names);
    let name = if is_word(name) { format!("`{name}`") } else { format!("member {position}") };
    if let Some(nearest) = nearest {
        return format!("{name} is not a setting that a tenant can override (the nearest is `{nearest}`)");
    }
    let names = SINK_SETTINGS.into_iter().chain(FILE_SETTINGS).collect::<Vec<_>>().join(", ");
    format!("{name} is not a setting that a tenant can override: expected path, {PAUSED}, {names}")
}

/// The settings of a sink. A tenant that overrides one of them has a sink of its own.
pub(super) const SINK_SETTINGS: [&str; 10] = [
    "DELIVER_TO",
    "WEBHOOK_SECRET",
    "WEBHOOK_GZIP",
    "WEBHOOK_TIMEOUT",
    "DELIVERY_PATIENCE",
    "SinkStorage",
    "SinkStorage__blobServiceUri",
    "SinkStorage__queueServiceUri",
    "SinkStorage__clientId",
    SERVICE_BUS,
];

/// The other settings that a tenant may override.
pub(super) const FILE_SETTINGS: [&str; 17] = [
    ROW_COLUMNS,
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
    "DIRECTORY",
    "DIRECTORY_COLUMNS",
    "DIRECTORY_KEY",
    "DIRECTORY_WAIT",
    "DIRECTORY_MEMORY",
];

/// `TENANTS`, parsed.
pub(super) struct TenantList {
    /// The tenants, and where each may drop.
    pub(super) tenants: Tenants,
    /// The settings that each tenant overrides; those of the short form override none.
    pub(super) overrides: BTreeMap<TenantId, Settings>,
    /// Recommended changes of entries that are usable, one sentence each.
    pub(super) warnings: Vec<String>,
}

impl FromSetting for TenantList {
    const EXPECTED: &'static str = "a comma-separated list of tenantId or tenantId=container/prefix, or a JSON object by \
                                    tenantId, or @ and the path of a file with this JSON";

    /// No error quotes the text: the JSON contains secrets, and so does JSON that is not recognized as such. Only the
    /// ids and paths of valid entries are quoted.
    fn from_setting(text: &str) -> Result<Self, ParseError> {
        let list = match json_of(text)? {
            Some(json) => from_json(&json).into_list().map_err(ParseError::Because)?,
            None => {
                let tenants = text.parse().map_err(|error: InvalidTenants| ParseError::Because(error.to_string()))?;
                Self { tenants, overrides: BTreeMap::new(), warnings: Vec::new() }
            }
        };
        let overlaps = list.tenants.overlaps();
        if overlaps.is_empty() { Ok(list) } else { Err(ParseError::Because(overlaps.join("; "))) }
    }
}

/// The JSON form in `text`, or in the file that it names; `None` for the short form.
fn json_of(text: &str) -> Result<Option<Cow<'_, str>>, ParseError> {
    if let Some(file) = text.strip_prefix('@') {
        let json = std::fs::read_to_string(file)
            .map_err(|error| ParseError::Because(format!("the file after `@` cannot be read: {error}")))?;
        // Editors on Windows write a byte-order mark.
        return Ok(Some(json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&json).to_owned().into()));
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_start();
    match text.as_bytes().first() {
        Some(b'{') => Ok(Some(text.into())),
        Some(b'[' | b'"' | b'\'') => {
            Err(ParseError::Because("JSON must begin with `{`, without quotes or a list around it".into()))
        }
        _ => Ok(None),
    }
}

/// The settings in the valid entries of an unusable `TENANTS`, so that the problems with them are reported as well.
pub(super) fn overrides_of_valid_entries(text: &str) -> BTreeMap<TenantId, Settings> {
    match json_of(text) {
        Ok(Some(json)) => from_json(&json).overrides,
        Ok(None) | Err(_) => BTreeMap::new(),
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

/// The JSON form, parsed as far as possible.
#[derive(Default)]
struct Parsed {
    locations: Vec<(TenantId, Option<DropPath>)>,
    overrides: BTreeMap<TenantId, Settings>,
    paused: BTreeSet<TenantId>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Parsed {
    fn into_list(self) -> Result<TenantList, String> {
        let Self { locations, overrides, paused, problems, warnings } = self;
        if problems.is_empty() {
            Ok(TenantList { tenants: Tenants::new(locations).with_paused(paused), overrides, warnings })
        } else {
            Err(problems.join("; "))
        }
    }
}

/// Parses the JSON form. Problems quote no value. They quote an unknown name only if it is a word, or similar to
/// that of a setting: any other may be a secret.
fn from_json(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let entries = match serde_json::from_str::<Members<Members<Value>>>(text) {
        Ok(Members(entries)) => entries,
        Err(error) => {
            // The parser's own message may quote a value.
            let (line, column) = (error.line(), error.column());
            let problem = format!("line {line}, column {column}: not JSON, or not an object of objects by tenantId");
            parsed.problems.push(problem);
            return parsed;
        }
    };
    for (number, (name, Members(members))) in (1..).zip(entries) {
        let tenant = match name.parse::<TenantId>() {
            Ok(tenant) => tenant,
            Err(error) => {
                parsed.problems.push(format!("entry {number}: {error}"));
                continue;
            }
        };
        let mut entry = Entry::default();
        for (position, (member, value)) in (1..).zip(members) {
            if let Err(problem) = entry.add(&member, position, value) {
                parsed.problems.push(format!("`{tenant}`: {problem}"));
            }
        }
        if entry.uses_old_name {
            parsed.warnings.push(format!("TENANTS, {tenant}: {}", row_columns::renamed()));
        }
        if entry.is_paused {
            parsed.paused.insert(tenant);
        }
        if parsed.overrides.insert(tenant, entry.settings).is_some() {
            parsed.problems.push(format!("`{tenant}`: appears twice"));
        }
        if entry.paths.is_empty() {
            parsed.locations.push((tenant, None));
        }
        parsed.locations.extend(entry.paths.into_iter().map(|path| (tenant, Some(path))));
    }
    if parsed.locations.is_empty() && parsed.problems.is_empty() {
        parsed.problems.push("contains no tenant".into());
    }
    parsed
}

/// The entry of one tenant.
#[derive(Default)]
struct Entry {
    /// Where the tenant may drop. If empty: at any path with its id as container or folder.
    paths: Vec<DropPath>,
    /// Whether its drops wait.
    is_paused: bool,
    /// The settings that the tenant overrides.
    settings: Settings,
    /// Whether it has `COLUMNS`.
    uses_old_name: bool,
}

impl Entry {
    /// Adds the member at `position` of the JSON object: `path`, `paused` or a setting.
    fn add(&mut self, name: &str, position: usize, value: Value) -> Result<(), String> {
        if name == "path" {
            return self.add_paths(value);
        }
        if name == PAUSED {
            self.is_paused = value.as_bool().ok_or_else(|| format!("`{PAUSED}` is not true or false"))?;
            return Ok(());
        }
        if name == COLUMNS {
            if value.is_number() || value.as_str().is_some_and(row_columns::is_terminal_width) {
                return Err(format!("`{COLUMNS}` is a number: expected {ROW_COLUMNS} with the names of columns"));
            }
            self.uses_old_name = true;
            return self.add(ROW_COLUMNS, position, value);
        }
        if !SINK_SETTINGS.contains(&name) && !FILE_SETTINGS.contains(&name) {
            return Err(unknown_member(name, position));
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
