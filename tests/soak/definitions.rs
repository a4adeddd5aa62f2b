//! Definitions of attributes that people edit during a soak, and what receivers must have in the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use vivadrop::{drop::TenantId, store::read_current};

use crate::{
    Soak, Uploaded,
    support::{
        attributes::{AppliedAttributes, latest_cycle, preview},
        command::{output_of, vivadrop},
    },
};

const ATTRIBUTES: [&str; 4] = ["Email hours", "Meeting hours", "Multitasking hours", "After-hours collaboration hours"];
const RANGES: [&str; 4] = ["1,2,3", "3,6,8", "5,10,15", "2,20,30"];
const PROGRAMS: [&str; 2] = ["Engagement", "Pulse"];
const CYCLES: [&str; 3] = ["A", "B", "C"];

/// The largest definitions, in bytes.
const MAX_DEFINITIONS: u64 = 1 << 20;

impl Soak {
    /// Edits the definitions of a tenant with the command line. The edit may fail, because storage fails or because
    /// there is nothing to edit.
    pub(crate) async fn edit_definitions(&mut self) {
        let rng = &mut self.rng;
        let tenant = rng.choice(&self.tenants).unwrap().to_string();
        let [attribute, program, ranges, cycle] =
            [&ATTRIBUTES[..], &PROGRAMS, &RANGES, &CYCLES].map(|all| *rng.choice(all).unwrap());
        let dates = latest_cycle(cycle);
        let cycle = format!("{cycle}={}..{}", text(&dates["start"]), text(&dates["end"]));
        let edit = match rng.u32(..12) {
            0..4 => vec!["attributes", "add", attribute],
            4 => vec!["attributes", "remove", attribute],
            5..8 => vec!["attributes", "ranges", attribute, "--max", ranges],
            8..11 => vec!["programs", "add", program, "--cycle", &cycle],
            _ => vec!["programs", "remove", program],
        };
        let mut command = vivadrop();
        command.args(&edit[..2]).args(["--tenant", &tenant]).args(&edit[2..]).envs(&self.scene.settings);
        let ended = output_of(&mut command).await;
        assert!(matches!(ended.code, Some(0..=2)), "{edit:?}: {:?} {}", ended.code, ended.stderr);
        self.figures.edits += usize::from(ended.code == Some(0));
    }

    /// The imports that receivers do not have as `preview` computes them from the same drop with the definitions that
    /// are stored now.
    pub(crate) async fn missing_imports(&mut self) -> Vec<String> {
        let messages = self.scene.receiver.received().attribute_bodies;
        let mut missing = Vec::new();
        for &tenant in &self.tenants {
            let applied = AppliedAttributes::of(&messages, tenant);
            let numbers: BTreeSet<u64> = applied.sequences.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers.len(), applied.sequences.len(), "used twice: {:?}", applied.sequences);
            let is_delivered = |uploaded: &Uploaded| uploaded.completes() && uploaded.drop.simulated.tenant == tenant;
            if let Some(definitions) = self.definitions(tenant).await
                && self.drops.iter().any(is_delivered)
            {
                let of_tenant = self.missing_after(&applied, &definitions).await;
                missing.extend(of_tenant.into_iter().map(|what| format!("{what} for {tenant}")));
            }
        }
        missing
    }

    /// What a receiver lacks that has applied these messages.
    async fn missing_after(&self, applied: &AppliedAttributes, definitions: &Value) -> Vec<String> {
        let deleted = deleted_attributes(applied, definitions);
        let mut missing: Vec<_> = deleted.map(|name| format!("the deletion of {name}")).collect();
        let mut previews = BTreeMap::new();
        for cycle in due_cycles(definitions) {
            if applied.failures.get(&cycle).is_some_and(|failure| failure == "would-identify") {
                continue;
            }
            let Some(import) = applied.imports.get(&cycle) else {
                missing.push(format!("the import of {cycle:?}"));
                continue;
            };
            if !previews.contains_key(&import.drop) {
                let uploaded = self.drops.iter().find(|uploaded| uploaded.drop.path() == import.drop).unwrap();
                previews.insert(import.drop.clone(), preview(&uploaded.drop, definitions).await);
            }
            let expected = previews[&import.drop].iter().find(|preview| cycle_of(preview) == cycle).unwrap();
            if (&json!(import.people), &import.counts) != (&expected["people"], &expected["counts"]) {
                missing.push(format!("the newest import of {cycle:?}"));
            }
        }
        missing
    }

    /// The stored definitions of a tenant.
    async fn definitions(&self, tenant: TenantId) -> Option<Value> {
        let blob = self.scene.state_blob(&format!("attributes/{tenant}.json"));
        let (_, text) = read_current(&*self.scene.store, &blob, MAX_DEFINITIONS).await.unwrap()?;
        Some(serde_json::from_slice(&text).unwrap())
    }
}

/// The attributes that a receiver still has although they were removed.
fn deleted_attributes<'a>(applied: &'a AppliedAttributes, definitions: &Value) -> impl Iterator<Item = &'a String> {
    let names: BTreeSet<String> =
        list(&definitions["attributes"]).map(|attribute| text(&attribute["name"]).to_owned()).collect();
    let imported = applied.imports.values().flat_map(|import| import.counts.as_object().unwrap().keys());
    imported.filter(move |name| !names.contains(*name))
}

/// The cycles that are imported: two of each program, because all end on the same day. Every drop reaches them. Without
/// attributes, none is imported.
fn due_cycles(definitions: &Value) -> Vec<(String, String)> {
    let mut due = Vec::new();
    if list(&definitions["attributes"]).next().is_none() {
        return due;
    }
    for program in list(&definitions["programs"]) {
        let cycles = list(&program["cycles"]).take(2);
        due.extend(cycles.map(|cycle| (text(&program["name"]).to_owned(), text(&cycle["name"]).to_owned())));
    }
    due
}

/// Program and cycle of a preview.
fn cycle_of(preview: &Value) -> (String, String) {
    (text(&preview["program"]).to_owned(), text(&preview["cycle"]).to_owned())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
