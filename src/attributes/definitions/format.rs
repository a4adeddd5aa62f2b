//! The JSON text of definitions, as people edit it.

use serde::Serialize;
use serde_json::value::RawValue;
use time::Date;

use super::{super::decimal::millionths_text, Attribute, Cycle, DEFAULTS, Definitions, parse::in_millionths};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DefinitionsJson<'a> {
    version: u32,
    min_group_size: u64,
    inactive_weeks: &'static str,
    values: bool,
    attributes: Vec<AttributeJson<'a>>,
    programs: Vec<ProgramJson<'a>>,
}

#[derive(Serialize)]
struct AttributeJson<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<[Box<RawValue>; 3]>,
    #[serde(skip_serializing_if = "Roles::is_empty")]
    roles: Roles<'a>,
}

struct Roles<'a>(&'a [(String, Vec<String>)]);

impl Roles<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Roles<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(role, permissions)| (role, permissions)))
    }
}

#[derive(Serialize)]
struct ProgramJson<'a> {
    name: &'a str,
    cycles: Vec<CycleJson<'a>>,
}

#[derive(Serialize)]
struct CycleJson<'a> {
    name: &'a str,
    start: String,
    end: String,
}

impl Definitions {
    /// The definitions as JSON text that [`parse`](Self::parse) reads. A default attribute has only the members that
    /// differ from its defaults.
    pub fn to_json(&self) -> String {
        let programs = self.programs.iter().map(|program| ProgramJson {
            name: &program.name,
            cycles: program.cycles.iter().map(cycle_json).collect(),
        });
        let json = DefinitionsJson {
            version: 1,
            min_group_size: self.min_group_size,
            inactive_weeks: if self.include_inactive_weeks { "include" } else { "exclude" },
            values: self.with_values,
            attributes: self.attributes.iter().map(attribute_json).collect(),
            programs: programs.collect(),
        };
        let mut text = serde_json::to_string_pretty(&json).expect("strings and numbers can always be serialized");
        text.push('\n');
        text
    }
}

fn cycle_json(cycle: &Cycle) -> CycleJson<'_> {
    CycleJson { name: &cycle.name, start: iso(cycle.start), end: iso(cycle.end) }
}

fn attribute_json(attribute: &Attribute) -> AttributeJson<'_> {
    let default = DEFAULTS.iter().find(|default| {
        default.name == attribute.name
            && default.column == attribute.column
            && default.unit == attribute.unit
            && default.older_columns.iter().eq(attribute.older_columns.iter())
    });
    let default_bounds = default.and_then(|default| default.bounds);
    let default_bounds = default_bounds.map(|bounds| bounds.map(in_millionths));
    let is_default = default_bounds == Some(attribute.bounds.map(Some));
    let bound = |millionths| RawValue::from_string(millionths_text(millionths)).expect("a decimal is valid JSON");
    AttributeJson {
        name: &attribute.name,
        metric: default.is_none().then_some(attribute.column.as_str()),
        unit: default.is_none().then_some(attribute.unit.as_str()),
        max: (!is_default).then(|| attribute.bounds.map(bound)),
        roles: Roles(&attribute.roles),
    }
}

/// A date as `YYYY-MM-DD`.
fn iso(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_the_same_after_they_are_formatted_and_parsed() {
        let json = br#"{"version": 1, "minGroupSize": 7, "inactiveWeeks": "exclude", "values": true,
            "attributes": [{"name": "Email hours", "roles": {"Manager": ["report-filters"], "HR": []}},
              {"name": "Call hours", "metric": "Call hours", "max": [0.5, 1, 2]},
              {"name": "Collaboration hours", "max": [15, 20.125, 25]},
              {"name": "Focus \"time\"", "metric": "TotalFocusHours", "unit": "Count", "max": [5, 10, 15]}],
            "programs": [{"name": "Engage", "cycles": [{"name": "Oct", "start": "2024-10-08", "end": "2024-10-15"}]},
              {"name": "Empty", "cycles": []}]}"#;
        let definitions = Definitions::parse(json).unwrap();
        let text = definitions.to_json();
        assert_eq!(Definitions::parse(text.as_bytes()).unwrap(), definitions, "{text}");
        assert!(!text.contains("\"CollaborationHoursEmails\""), "{text}");
    }

    #[test]
    fn a_default_attribute_needs_only_its_name() {
        let definitions = Definitions::parse(br#"{"attributes": [{"name": "Email hours"}]}"#).unwrap();
        let value: serde_json::Value = serde_json::from_str(&definitions.to_json()).unwrap();
        assert_eq!(value["attributes"], serde_json::json!([{"name": "Email hours"}]));
    }
}
