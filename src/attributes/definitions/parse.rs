//! Reads definitions from JSON, and names every mistake.

use std::{collections::HashSet, fmt};

use serde_json::value::RawValue;

use super::{
    super::{calendar::iso_date, confidentiality::RANGES, decimal::Decimal},
    Attribute, Cycle, DEFAULTS, Definitions, InvalidDefinitions, Program,
};

/// The version of the format.
const VERSION: &str = "1";

/// The longest name, in characters: the limit of survey platforms for attributes and values.
const LONGEST_NAME: usize = 64;

/// The unit whose numbers are scaled from months to weeks.
const HOUR: &str = "Hour";

/// The smallest `minGroupSize`, and its default.
const SMALLEST_GROUP: u64 = 5;

/// The permissions that a role can have for an attribute.
const PERMISSIONS: [&str; 3] = ["report-filters", "report-sections", "comment-filters"];

impl Definitions {
    /// Reads definitions from JSON.
    ///
    /// Fails with every mistake at once: JSON that cannot be parsed, unknown members and names, bounds that do not
    /// ascend, a metric that two attributes have, a cycle that ends before it starts. The list of attributes may be
    /// empty.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidDefinitions> {
        let json = json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json);
        let text: &RawValue = serde_json::from_slice(json)
            .map_err(|error| InvalidDefinitions(vec![format!("the definitions are not valid JSON: {error}")]))?;
        let mut reader = Reader::default();
        let definitions = reader.definitions(text);
        if reader.mistakes.is_empty() { Ok(definitions) } else { Err(InvalidDefinitions(reader.mistakes)) }
    }
}

/// Reads values and collects mistakes. A value with a mistake is replaced by a default, so that reading goes on.
#[derive(Default)]
struct Reader {
    mistakes: Vec<String>,
}

/// The members of an object, by name.
type Members<'a> = Vec<(String, &'a RawValue)>;

impl Reader {
    fn mistake(&mut self, place: &str, what: &str) {
        self.mistakes.push(format!("{place}: {what}"));
    }

    fn definitions(&mut self, json: &RawValue) -> Definitions {
        const PLACE: &str = "definitions";
        let known = ["version", "minGroupSize", "inactiveWeeks", "values", "attributes", "programs"];
        let members = self.members(PLACE, json);
        self.check_known(PLACE, &members, &known);
        if let Some(version) = member(&members, "version")
            && version.get() != VERSION
        {
            self.mistake(PLACE, "`version` is not 1, the only version that this vivadrop knows");
        }
        let min_group_size = member(&members, "minGroupSize").map_or(SMALLEST_GROUP, |value| {
            let size: Option<u64> = serde_json::from_str(value.get()).ok();
            if size.is_none_or(|size| size < SMALLEST_GROUP) {
                self.mistake(PLACE, "`minGroupSize` is not a whole number of 5 or more");
            }
            size.unwrap_or(SMALLEST_GROUP)
        });
        let inactive_weeks = member(&members, "inactiveWeeks").map(|value| serde_json::from_str::<String>(value.get()));
        let include_inactive_weeks = match inactive_weeks.as_ref().map(Result::as_deref) {
            None | Some(Ok("include")) => true,
            Some(Ok("exclude")) => false,
            Some(_) => {
                self.mistake(PLACE, "`inactiveWeeks` is neither \"include\" nor \"exclude\"");
                true
            }
        };
        let with_values = member(&members, "values").is_some_and(|value| self.boolean(PLACE, "values", value));
        let attributes = self.attributes(member(&members, "attributes"));
        let programs = self.programs(member(&members, "programs"));
        Definitions { min_group_size, include_inactive_weeks, with_values, attributes, programs }
    }

    fn attributes(&mut self, json: Option<&RawValue>) -> Vec<Attribute> {
        let items = match json {
            Some(json) => self.array("`attributes`", json),
            None => {
                self.mistake("definitions", "there are no `attributes`");
                Vec::new()
            }
        };
        let (mut names, mut columns) = (HashSet::new(), HashSet::new());
        let mut attributes = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let Some(attribute) = self.attribute(at, item, &mut names) else { continue };
            let taken = std::iter::once(&attribute.column).chain(&attribute.older_columns);
            // Two sets of ranges over one metric would isolate the people between their bounds.
            for column in taken {
                if !columns.insert(column.clone()) {
                    self.mistake(
                        &format!("attribute `{}`", attribute.name),
                        &format!("another attribute has its metric `{column}`"),
                    );
                }
            }
            attributes.push(attribute);
        }
        attributes
    }

    fn attribute(&mut self, at: usize, json: &RawValue, names: &mut HashSet<String>) -> Option<Attribute> {
        let known = ["name", "metric", "unit", "max", "roles"];
        let (name, place, members) = self.item("attribute", at, json, &known, names)?;
        let metric = member(&members, "metric").and_then(|value| self.text(&place, "metric", value));
        let unit = member(&members, "unit").and_then(|value| self.unit(&place, value));
        let bounds = member(&members, "max").map(|value| self.bounds(&place, value));
        let roles = member(&members, "roles").map_or_else(Vec::new, |value| self.roles(&place, value));

        let default = DEFAULTS.iter().find(|default| default.name == name);
        let (column, older_columns, unit, default_bounds) = match (metric, default) {
            (Some(metric), _) => (metric, &[][..], unit.unwrap_or_else(|| HOUR.into()), None),
            (None, Some(default)) => {
                if unit.is_some_and(|unit| unit != default.unit) && member(&members, "metric").is_none() {
                    self.mistake(&place, &format!("has another `unit` than the default attribute, {}", default.unit));
                }
                (default.column.into(), default.older_columns, default.unit.into(), default.bounds)
            }
            (None, None) => {
                self.mistake(&place, "is not one of the default attributes and has no `metric`, the column to use");
                return None;
            }
        };
        let default_bounds = default_bounds.map(|bounds| bounds.map(in_millionths));
        let Some(bounds) =
            bounds.unwrap_or(default_bounds.map(|bounds| bounds.map(|bound| bound.expect("the defaults are valid"))))
        else {
            if member(&members, "max").is_none() {
                self.mistake(&place, "needs `max`, the upper bounds of its first three ranges");
            }
            return None;
        };
        let older_columns = older_columns.iter().map(|&column| column.into()).collect();
        Some(Attribute { name, column, older_columns, unit, bounds, roles })
    }

    /// The unit of a metric; `None` after a mistake.
    fn unit(&mut self, place: &str, json: &RawValue) -> Option<String> {
        let unit = self.text(place, "unit", json)?;
        let lowercase = unit.trim().to_lowercase();
        // Monthly data of a metric with any other unit would not be scaled to weeks.
        if unit != HOUR && matches!(lowercase.as_str(), "hour" | "hours") {
            self.mistake(place, &format!("the `unit` `{unit}` is not `{HOUR}`: write it exactly so"));
            return None;
        }
        Some(unit)
    }

    fn bounds(&mut self, place: &str, json: &RawValue) -> Option<[u64; RANGES - 1]> {
        let bounds: Option<Vec<&RawValue>> = serde_json::from_str(json.get()).ok();
        let bounds = bounds
            .and_then(|bounds| bounds.into_iter().map(|bound| in_millionths(bound.get())).collect::<Option<Vec<_>>>());
        match bounds.map(<[u64; RANGES - 1]>::try_from) {
            Some(Ok(bounds)) if bounds[0] < bounds[1] && bounds[1] < bounds[2] => Some(bounds),
            _ => {
                self.mistake(
                    place,
                    "`max` is not three ascending numbers above 0 and below 1e9 with at most 6 decimals",
                );
                None
            }
        }
    }

    fn roles(&mut self, place: &str, json: &RawValue) -> Vec<(String, Vec<String>)> {
        let mut roles = Vec::new();
        for (role, json) in self.members(&format!("{place}, `roles`"), json) {
            let place = format!("{place}, role `{role}`");
            self.check_name(&place, &role);
            let permissions: Vec<String> = self
                .array(&place, json)
                .into_iter()
                .filter_map(|item| self.string(&place, "permission", item))
                .collect();
            for permission in permissions.iter().filter(|permission| !PERMISSIONS.contains(&permission.as_str())) {
                self.mistake(
                    &place,
                    &format!("`{permission}` is not a permission: expected {}", PERMISSIONS.join(", ")),
                );
            }
            roles.push((role, permissions));
        }
        roles
    }

    fn programs(&mut self, json: Option<&RawValue>) -> Vec<Program> {
        let items = json.map_or_else(Vec::new, |json| self.array("`programs`", json));
        let mut names = HashSet::new();
        let mut programs = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let named = self.item("program", at, item, &["name", "cycles"], &mut names);
            let Some((name, place, members)) = named else { continue };
            let cycles = member(&members, "cycles")
                .map_or_else(Vec::new, |value| self.array(&format!("{place}, `cycles`"), value));
            let mut cycle_names = HashSet::new();
            let cycles =
                cycles.into_iter().enumerate().filter_map(|(at, item)| self.cycle(&place, at, item, &mut cycle_names));
            let cycles = cycles.collect();
            programs.push(Program { name, cycles });
        }
        programs
    }

    fn cycle(&mut self, program: &str, at: usize, json: &RawValue, names: &mut HashSet<String>) -> Option<Cycle> {
        let kind = format!("{program}, cycle");
        let (name, place, members) = self.item(&kind, at, json, &["name", "start", "end"], names)?;
        let [start, end] = ["start", "end"].map(|side| {
            let date = member(&members, side).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
            let date = date.and_then(|text| iso_date(text.as_bytes()));
            if date.is_none() {
                self.mistake(&place, &format!("`{side}` is not a date such as 2024-10-08"));
            }
            date
        });
        let (start, end) = (start?, end?);
        if end <= start {
            self.mistake(&place, "does not end after it starts");
        }
        Some(Cycle { name, start, end })
    }

    /// The name, the place and the members of the item `at` of a list. The place begins with `kind`. The item may only
    /// have `known` members.
    fn item<'a>(
        &mut self,
        kind: &str,
        at: usize,
        json: &'a RawValue,
        known: &[&str],
        names: &mut HashSet<String>,
    ) -> Option<(String, String, Members<'a>)> {
        let unnamed = format!("{kind} {}", at + 1);
        let members = self.members(&unnamed, json);
        let mistakes = self.mistakes.len();
        let name = self.name(&unnamed, &members, names);
        // A name that another item has as well, or an empty one, is no place.
        let is_usable = self.mistakes.len() == mistakes;
        let usable = name.as_ref().filter(|_| is_usable);
        let place = usable.map_or(unnamed, |name| format!("{kind} `{name}`"));
        self.check_known(&place, &members, known);
        Some((name?, place, members))
    }

    /// The `name` of an item, which must have 1 to 64 characters and be unique: `names` has those of the earlier items.
    fn name(&mut self, place: &str, members: &Members<'_>, names: &mut HashSet<String>) -> Option<String> {
        let Some(value) = member(members, "name") else {
            self.mistake(place, "has no `name`");
            return None;
        };
        let name = self.string(place, "name", value)?;
        self.check_name(place, &name);
        if !names.insert(name.clone()) {
            self.mistake(place, &format!("the name `{name}` is used twice"));
        }
        Some(name)
    }

    fn check_name(&mut self, place: &str, name: &str) {
        if !(1..=LONGEST_NAME).contains(&name.chars().count()) {
            self.mistake(place, &format!("the name `{name}` does not have 1 to {LONGEST_NAME} characters"));
        } else if name.trim().is_empty() {
            self.mistake(place, "the name is blank");
        }
    }

    fn check_known(&mut self, place: &str, members: &Members<'_>, known: &[&str]) {
        for (name, _) in members.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            self.mistake(place, &format!("unknown member `{name}`: expected {}", known.join(", ")));
        }
    }

    fn members<'a>(&mut self, place: &str, json: &'a RawValue) -> Members<'a> {
        match serde_json::from_str::<RawMembers<'a>>(json.get()) {
            Ok(RawMembers(members)) => {
                let mut names = HashSet::new();
                for (name, _) in members.iter().filter(|(name, _)| !names.insert(name.clone())) {
                    self.mistake(place, &format!("member `{name}` is there twice"));
                }
                members
            }
            Err(_) => {
                self.mistake(place, "is not a JSON object");
                Vec::new()
            }
        }
    }

    fn array<'a>(&mut self, place: &str, json: &'a RawValue) -> Vec<&'a RawValue> {
        serde_json::from_str(json.get()).unwrap_or_else(|_| {
            self.mistake(place, "is not a JSON array");
            Vec::new()
        })
    }

    fn string(&mut self, place: &str, name: &str, json: &RawValue) -> Option<String> {
        let text = serde_json::from_str(json.get()).ok();
        if text.is_none() {
            self.mistake(place, &format!("`{name}` is not a string"));
        }
        text
    }

    /// A string that must not be blank.
    fn text(&mut self, place: &str, name: &str, json: &RawValue) -> Option<String> {
        let text = self.string(place, name, json)?;
        if text.trim().is_empty() {
            self.mistake(place, &format!("`{name}` is blank"));
        }
        Some(text)
    }

    fn boolean(&mut self, place: &str, name: &str, json: &RawValue) -> bool {
        serde_json::from_str(json.get()).unwrap_or_else(|_| {
            self.mistake(place, &format!("`{name}` is neither true nor false"));
            false
        })
    }
}

fn member<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    members.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
}

/// A JSON number in millionths, if it is one that can be a bound.
pub(super) fn in_millionths(json: &str) -> Option<u64> {
    let is_number = crate::json::members::is_number(json.as_bytes());
    is_number.then(|| Decimal::parse(json.as_bytes()).in_millionths()).flatten()
}

/// The members of an object as they are written, repeated names included.
struct RawMembers<'a>(Members<'a>);

impl<'de> serde::Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> serde::de::Visitor<'de> for Collect {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
