//! Survey attributes in tests: definitions, the people that `preview` computes, and a receiver that follows the rules
//! of `docs/attributes.md`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use bytes::Bytes;
use serde_json::{Value, json};
use time::Duration;
use vivadrop::{clock, drop::TenantId, store::WriteIf};

use super::{
    command::{output_of, vivadrop},
    scene::{Scene, SimulatedDrop},
};

/// A survey cycle that ends on the day of the last extraction, so that simulated drops reach it.
pub(crate) fn latest_cycle(name: &str) -> Value {
    let today = clock::now().date();
    let monday = today - Duration::days(today.weekday().number_days_from_monday().into());
    json!({"name": name, "start": (monday - Duration::days(7)).to_string(), "end": monday.to_string()})
}

/// What `vivadrop attributes preview` computes from a simulated drop, joined to its directory if there is one: one
/// object per cycle. A cycle that cannot be reported is left out.
pub(crate) async fn preview(drop: &SimulatedDrop, definitions: &Value) -> Vec<Value> {
    let file = drop.simulated.drop.with_extension("attributes.json");
    fs::write(&file, definitions.to_string()).unwrap();
    let mut command = vivadrop();
    command.args(["attributes", "preview", "--format", "json"]).arg(&drop.simulated.drop).arg("--attributes").arg(file);
    command.arg("--private-key").arg(&drop.simulated.private_key);
    command.arg("--decryption-keys").arg(&drop.simulated.decryption_keys);
    if let Some(directory) = &drop.simulated.directory {
        command.arg("--directory").arg(directory);
    }
    let ended = output_of(&mut command).await;
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An import that a receiver has applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AppliedImport {
    pub(crate) import_id: String,
    pub(crate) sequence: u64,
    /// The drop path.
    pub(crate) drop: String,
    /// The people in the order of their positions, without the attributes that were deleted later.
    pub(crate) people: Vec<Value>,
    pub(crate) counts: Value,
}

/// What a receiver has of a tenant's attributes.
#[derive(Debug, Default)]
pub(crate) struct AppliedAttributes {
    /// By program and cycle.
    pub(crate) imports: BTreeMap<(String, String), AppliedImport>,
    /// By program and cycle, if its last import has failed: the reason.
    pub(crate) failures: BTreeMap<(String, String), String>,
    /// The messages with a `sequence`: their numbers and types, in the order in which they arrived.
    pub(crate) sequences: Vec<(u64, String)>,
    /// The `sequence` of the last deletion.
    deleted: u64,
    /// By program and cycle: the `sequence` of the last end.
    ends: BTreeMap<(String, String), u64>,
    /// By import: the people by position.
    people: HashMap<String, BTreeMap<u64, Value>>,
}

impl AppliedAttributes {
    /// Applies the accepted messages about `tenant`, each once.
    pub(crate) fn of(messages: &[Bytes], tenant: TenantId) -> Self {
        let mut applied = Self::default();
        let tenant = tenant.to_string();
        for message in messages {
            let mut message: Value = serde_json::from_slice(message).unwrap();
            if message["data"]["tenantId"] == *tenant {
                let data = message["data"].take();
                applied.apply(message["type"].as_str().unwrap(), data);
            }
        }
        applied
    }

    /// Applies a message.
    fn apply(&mut self, kind: &str, mut data: Value) {
        if let Some(sequence) = data["sequence"].as_u64() {
            self.sequences.push((sequence, kind.to_owned()));
        }
        match kind {
            "viva.insights.attributes" => {
                let people = self.people.entry(text(&data, "importId")).or_default();
                let first = data["firstPerson"].as_u64().unwrap();
                let Value::Array(batch) = data["people"].take() else { panic!("`people` is a list") };
                assert_eq!(first + batch.len() as u64, data["endPerson"].as_u64().unwrap());
                people.extend((first..).zip(batch));
            }
            "viva.insights.attributes.completed" => self.complete(&data),
            "viva.insights.attributes.failed" => {
                if let Some(cycle) = self.newer_end(&data) {
                    self.failures.insert(cycle, text(&data, "reason"));
                }
            }
            "viva.insights.attributes.deleted" => self.delete(&text(&data, "attribute"), &data),
            _ => {}
        }
    }

    /// Applies an import whose people have all arrived.
    fn complete(&mut self, data: &Value) {
        let (import_id, sequence) = (text(data, "importId"), data["sequence"].as_u64().unwrap());
        let people = self.people.get(&import_id).cloned().unwrap_or_default();
        // The sink has acknowledged all people before `completed` is sent.
        assert!(
            people.keys().copied().eq(0..data["people"].as_u64().unwrap()),
            "{import_id} has not all of its people"
        );
        if let Some(cycle) = self.newer_end(data) {
            let people = people.into_values().collect();
            let (drop, counts) = (text(&data["drop"], "path"), data["counts"].clone());
            self.failures.remove(&cycle);
            self.imports.insert(cycle, AppliedImport { import_id, sequence, drop, people, counts });
        }
    }

    /// The cycle of an import that has ended; `None` if the message is late, because a deletion or another end of the
    /// cycle has a higher `sequence`.
    fn newer_end(&mut self, data: &Value) -> Option<(String, String)> {
        let cycle = (text(data, "program"), text(data, "cycle"));
        let sequence = data["sequence"].as_u64().unwrap();
        let newest = self.ends.entry(cycle.clone()).or_default();
        let is_newer = sequence > (*newest).max(self.deleted);
        *newest = sequence.max(*newest);
        is_newer.then_some(cycle)
    }

    /// Removes an attribute from the imports before the deletion.
    fn delete(&mut self, attribute: &str, data: &Value) {
        let sequence = data["sequence"].as_u64().unwrap();
        self.deleted = self.deleted.max(sequence);
        for import in self.imports.values_mut().filter(|import| import.sequence < sequence) {
            let holders = import.people.iter_mut().map(|person| &mut person["attributes"]).chain([&mut import.counts]);
            holders.for_each(|holder| drop(holder.as_object_mut().unwrap().remove(attribute)));
        }
    }
}

fn text(data: &Value, member: &str) -> String {
    data[member].as_str().unwrap_or_else(|| panic!("`{member}` is a text: {data}")).to_owned()
}

/// Stores the definitions of `tenant`, as a person does who edits them by hand.
pub(crate) async fn define(scene: &Scene, tenant: TenantId, definitions: &Value) {
    let blob = scene.state_blob(&format!("attributes/{tenant}.json"));
    scene.store.write(&blob, definitions.to_string().into(), WriteIf::Always).await.unwrap();
}
