//! The survey attributes of the examples: applies imports, and writes the result next to the journal.
//!
//! The people of an import are kept until the import is complete; then they replace those of the cycle's earlier
//! import. Messages may arrive in another order than they were sent: an import waits until all of its people are there,
//! and an import that is older than a deletion, or than a newer import of its cycle, is ignored. The journal has all
//! messages, so this state is computed again when the program starts.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Tenant, program and cycle.
type Cycle = (String, String, String);

/// The attributes of each person, by object id.
type People = BTreeMap<String, BTreeMap<String, Value>>;

/// The imports of a receiver: those in force, and those that are incomplete.
pub(crate) struct Attributes {
    path: PathBuf,
    applied: HashMap<Cycle, Import>,
    /// The people of imports that are not applied, by import id.
    pending: HashMap<String, People>,
    /// The ends of imports that wait for people, by import id.
    completed: HashMap<String, Completed>,
    /// The highest `sequence` of the deletions of each tenant.
    deletions: HashMap<String, u64>,
    /// Whether the file lacks changes.
    has_changes: bool,
}

/// An import that is applied.
#[derive(Serialize)]
struct Import {
    sequence: u64,
    people: People,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    data: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    import_id: String,
    people: Vec<Person>,
}

#[derive(Deserialize)]
struct Person {
    #[serde(rename = "ObjectId")]
    object_id: String,
    attributes: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Completed {
    tenant_id: String,
    import_id: String,
    program: String,
    cycle: String,
    sequence: u64,
    people: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    tenant_id: String,
    sequence: u64,
    attribute: String,
}

impl Attributes {
    /// The attributes that will be written to `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        let (applied, pending) = (HashMap::new(), HashMap::new());
        Self { path, applied, pending, completed: HashMap::new(), deletions: HashMap::new(), has_changes: true }
    }

    /// Takes a stored message. A message that cannot be read changes nothing.
    pub(crate) fn take(&mut self, json: &[u8]) {
        self.has_changes |= self.try_take(json).unwrap_or(false);
    }

    fn try_take(&mut self, json: &[u8]) -> serde_json::Result<bool> {
        let Message { kind, data } = serde_json::from_slice(json)?;
        match kind.as_str() {
            "viva.insights.attributes" => {
                let Batch { import_id, people } = serde_json::from_value(data)?;
                let people = people.into_iter().map(|person| (person.object_id, person.attributes));
                self.pending.entry(import_id.clone()).or_default().extend(people);
                Ok(self.apply(&import_id))
            }
            "viva.insights.attributes.completed" => {
                let completed: Completed = serde_json::from_value(data)?;
                let import_id = completed.import_id.clone();
                self.completed.insert(import_id.clone(), completed);
                Ok(self.apply(&import_id))
            }
            "viva.insights.attributes.deleted" => {
                self.delete(serde_json::from_value(data)?);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Applies an import if all of it is there, unless a newer import or a deletion has replaced it.
    fn apply(&mut self, import_id: &str) -> bool {
        let people = self.pending.get(import_id).map_or(0, BTreeMap::len);
        let Some(Completed { tenant_id, program, cycle, sequence, .. }) =
            self.completed.get(import_id).filter(|completed| completed.people == people)
        else {
            return false;
        };
        let (cycle, sequence) = ((tenant_id.clone(), program.clone(), cycle.clone()), *sequence);
        let newest = self.applied.get(&cycle).map_or(0, |import| import.sequence);
        let is_late = newest.max(self.deletions.get(&cycle.0).copied().unwrap_or_default()) > sequence;
        let people = self.pending.remove(import_id).unwrap_or_default();
        self.completed.remove(import_id);
        if !is_late {
            self.applied.insert(cycle, Import { sequence, people });
        }
        !is_late
    }

    /// Deletes an attribute from everything that was imported before the deletion.
    fn delete(&mut self, Deleted { tenant_id, sequence, attribute }: Deleted) {
        let before =
            self.applied.iter_mut().filter(|(cycle, import)| cycle.0 == tenant_id && import.sequence < sequence);
        for person in before.flat_map(|(_, import)| import.people.values_mut()) {
            person.remove(&attribute);
        }
        let last = self.deletions.entry(tenant_id).or_default();
        *last = sequence.max(*last);
    }

    /// Writes the applied imports, if they have changed: one line for each cycle. A crash leaves the old or the new
    /// file.
    pub(crate) fn write_changes(&mut self) -> io::Result<()> {
        if !self.has_changes {
            return Ok(());
        }
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        for ((tenant, program, cycle), import) in &self.applied {
            serde_json::to_writer(&mut file, &(tenant, program, cycle, import))?;
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        self.has_changes = false;
        Ok(())
    }
}
