//! Which survey cycles are imported, and what a change of the definitions causes.

use sha2::{Digest, Sha256};
use time::{Date, Duration, Month};

use super::{
    calendar::Window,
    definitions::{Attribute, Cycle, Definitions, Program},
};
use crate::hex::hex;

/// How many ended cycles of a program are imported: the latest ones.
const LATEST_CYCLES: usize = 2;

/// How long ago an imported cycle may have ended.
const MAX_MONTHS: i32 = 24;

/// A cycle that has ended and whose attributes are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueCycle<'a> {
    /// The survey program.
    pub program: &'a Program,
    /// The cycle.
    pub cycle: &'a Cycle,
    /// The days whose rows count.
    pub window: Window,
}

impl Definitions {
    /// The two latest cycles of each program that have ended by `today`, at most 24 months ago, in the order of the
    /// definitions. Without attributes, none is due.
    pub fn due_cycles(&self, today: Date) -> Vec<DueCycle<'_>> {
        if self.attributes.is_empty() {
            return Vec::new();
        }
        let oldest = months_before(today, MAX_MONTHS);
        let mut due = Vec::new();
        for program in &self.programs {
            let mut ended: Vec<&Cycle> =
                program.cycles.iter().filter(|cycle| cycle.end <= today && cycle.end >= oldest).collect();
            ended.sort_by_key(|cycle| std::cmp::Reverse(cycle.end));
            ended.truncate(LATEST_CYCLES);
            for cycle in program.cycles.iter().filter(|cycle| ended.contains(cycle)) {
                if let Some(window) = Window::before(cycle.end) {
                    due.push(DueCycle { program, cycle, window });
                }
            }
        }
        due
    }

    /// The day on which the next cycle ends, if one has yet to end.
    pub fn next_cycle_end(&self, today: Date) -> Option<Date> {
        let ends = self.programs.iter().flat_map(|program| &program.cycles).map(|cycle| cycle.end);
        ends.filter(|&end| end > today).min()
    }

    /// The definitions without the roles, which have no influence on what is computed.
    pub fn without_roles(&self) -> Self {
        let attributes = self.attributes.iter().map(|attribute| Attribute { roles: Vec::new(), ..attribute.clone() });
        Self { attributes: attributes.collect(), ..self.clone() }
    }

    /// A hash of everything in the definitions that determines the result of `cycle`: if the hash changes, the cycle is
    /// imported again.
    pub fn rules_of(&self, cycle: &Cycle) -> String {
        let common = Self { programs: Vec::new(), ..self.without_roles() }.to_json();
        let hash = Sha256::new().chain_update(common).chain_update(cycle.end.to_string()).finalize();
        hex(hash.first_chunk::<16>().expect("a hash has 32 bytes"))
    }

    /// Whether these and the `other` definitions give the same attributes for the same cycle.
    pub fn computes_the_same_as(&self, other: &Self) -> bool {
        let [a, b] = [self, other].map(|definitions| Self { programs: Vec::new(), ..definitions.without_roles() });
        a == b
    }

    /// The names of the attributes that these definitions have and `new` ones lack: their imported data is deleted.
    pub fn attributes_missing_in<'a>(&'a self, new: &'a Self) -> impl Iterator<Item = &'a str> {
        let is_kept = |name: &str| new.attributes.iter().any(|attribute| attribute.name == name);
        self.attributes.iter().map(|attribute| attribute.name.as_str()).filter(move |name| !is_kept(name))
    }

    /// The consequences of a change from `old` to `new` definitions, one sentence each, for the person who makes the
    /// change.
    pub fn consequences(old: Option<&Self>, new: &Self, today: Date) -> Vec<String> {
        let mut consequences = Vec::new();
        for name in old.iter().flat_map(|old| old.attributes_missing_in(new)) {
            consequences.push(Self::deletion(name));
        }
        let is_recomputed = old.is_none_or(|old| !old.computes_the_same_as(new));
        let is_known = |due: &DueCycle<'_>| {
            old.is_some_and(|old| {
                let mut programs = old.programs.iter().filter(|program| program.name == due.program.name);
                !old.attributes.is_empty() && programs.any(|program| program.cycles.contains(due.cycle))
            })
        };
        for due in new.due_cycles(today) {
            let (program, cycle) = (&due.program.name, &due.cycle.name);
            if !is_known(&due) {
                consequences.push(format!("imports `{program}` `{cycle}`, if a drop in storage reaches its last week"));
            } else if is_recomputed {
                consequences.push(format!("imports `{program}` `{cycle}` again, if its drop is still in storage"));
            }
        }
        for program in old.iter().flat_map(|old| &old.programs) {
            if !new.programs.iter().any(|kept| kept.name == program.name) {
                let name = &program.name;
                consequences.push(format!("removes the program `{name}`: what was imported for it stays at receivers"));
            }
        }
        let has_other_roles = |attribute: &Attribute| {
            let mut others = new.attributes.iter().filter(|other| other.name == attribute.name);
            others.any(|other| other.roles != attribute.roles)
        };
        if old.iter().flat_map(|old| &old.attributes).any(has_other_roles) {
            consequences.push("sends the definitions with their roles to receivers".into());
        }
        consequences
    }

    /// The consequence of removing the attribute `name`.
    pub(crate) fn deletion(name: &str) -> String {
        format!("deletes `{name}`: receivers drop everything imported under that name")
    }
}

fn months_before(date: Date, months: i32) -> Date {
    let total = date.year() * 12 + i32::from(u8::from(date.month())) - 1 - months;
    let month = Month::try_from(u8::try_from(total.rem_euclid(12) + 1).expect("1 to 12")).expect("1 to 12");
    let year = total.div_euclid(12);
    let day = date.day().min(month.length(year));
    Date::from_calendar_date(year, month, day).unwrap_or(Date::MIN)
}

impl Window {
    /// The first day of the window's last week.
    pub fn last_week(self) -> Date {
        self.end - Duration::days(7)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    fn definitions(cycles: &[(&str, Date, Date)], attributes: &str) -> Definitions {
        let cycles = cycles
            .iter()
            .map(|(name, start, end)| format!(r#"{{"name":"{name}","start":"{start}","end":"{end}"}}"#))
            .collect::<Vec<_>>()
            .join(",");
        let json =
            format!(r#"{{"attributes":[{attributes}],"programs":[{{"name":"Engagement","cycles":[{cycles}]}}]}}"#);
        Definitions::parse(json.as_bytes()).unwrap()
    }

    const EMAIL: &str = r#"{"name":"Email hours"}"#;

    #[test]
    fn the_two_latest_ended_cycles_are_imported_and_others_as_they_end() {
        let cycles = [
            ("Apr", date!(2024 - 04 - 08), date!(2024 - 04 - 15)),
            ("Oct", date!(2024 - 10 - 08), date!(2024 - 10 - 15)),
            ("Jul", date!(2024 - 07 - 08), date!(2024 - 07 - 15)),
            ("Jan", date!(2025 - 01 - 08), date!(2025 - 01 - 15)),
        ];
        let definitions = definitions(&cycles, EMAIL);
        let due = |today| -> Vec<&str> {
            definitions.due_cycles(today).into_iter().map(|due| due.cycle.name.as_str()).collect()
        };
        assert_eq!(due(date!(2024 - 10 - 14)), ["Apr", "Jul"]);
        assert_eq!(due(date!(2024 - 10 - 15)), ["Oct", "Jul"]);
        assert_eq!(due(date!(2025 - 01 - 15)), ["Oct", "Jan"]);
        assert_eq!(due(date!(2026 - 10 - 15)), ["Oct", "Jan"]);
        assert_eq!(due(date!(2026 - 10 - 16)), ["Jan"]);
        assert_eq!(definitions.next_cycle_end(date!(2024 - 10 - 14)), Some(date!(2024 - 10 - 15)));
        assert_eq!(definitions.next_cycle_end(date!(2025 - 01 - 15)), None);
    }

    #[test]
    fn months_are_counted_back_to_an_existing_day() {
        assert_eq!(months_before(date!(2026 - 02 - 28), 24), date!(2024 - 02 - 28));
        assert_eq!(months_before(date!(2024 - 02 - 29), 24), date!(2022 - 02 - 28));
        assert_eq!(months_before(date!(2026 - 01 - 31), 14), date!(2024 - 11 - 30));
    }

    #[test]
    fn a_change_names_what_it_imports_again_and_what_it_deletes() {
        let today = date!(2024 - 11 - 01);
        let oct = [("Oct", date!(2024 - 10 - 08), date!(2024 - 10 - 15))];
        let old = definitions(&oct, r#"{"name":"Email hours"},{"name":"Call hours"}"#);
        let texts = |new: &Definitions| Definitions::consequences(Some(&old), new, today);
        assert_eq!(texts(&old), [""; 0]);
        let ranges = definitions(&oct, r#"{"name":"Email hours","max":[1,2,3]},{"name":"Call hours"}"#);
        assert_eq!(texts(&ranges), ["imports `Engagement` `Oct` again, if its drop is still in storage"]);
        let removed = texts(&definitions(&oct, EMAIL));
        assert_eq!(removed.len(), 2, "{removed:?}");
        assert!(removed[0].starts_with("deletes `Call hours`"), "{removed:?}");
        let roles = r#"{"name":"Email hours","roles":{"Manager":["report-filters"]}},{"name":"Call hours"}"#;
        assert_eq!(texts(&definitions(&oct, roles)), ["sends the definitions with their roles to receivers"]);
        let jan = [oct[0], ("Jul", date!(2024 - 07 - 08), date!(2024 - 07 - 15))];
        let added = texts(&definitions(&jan, r#"{"name":"Email hours"},{"name":"Call hours"}"#));
        assert_eq!(added, ["imports `Engagement` `Jul`, if a drop in storage reaches its last week"]);
    }
}
