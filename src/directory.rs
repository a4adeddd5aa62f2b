//! The directory of a tenant as a lookup table: which person has which e-mail address, department and so on. Does no
//! I/O.
//!
//! A [`DirectoryBuilder`] takes the decoded rows of a directory export (BasicDataSet_v0.User_v1); the [`Directory`]
//! then finds the person of an analytics row and returns the JSON text of the row's `directory` member.
//!
//! Memory per person: 29 to 57 bytes for the id and the place of the values, and the values as JSON text plus a byte
//! each. With the default columns, this is about 110 bytes in all, and up to twice as much while the table grows. If
//! rows are matched by e-mail address, each address costs 29 to 57 bytes more, and 48 bytes more if people share it.

mod addresses;
mod config;
mod rules;
mod snapshot;
mod table;

use std::{collections::HashMap, fmt};

use sha2::{Digest, Sha256};

use self::{
    addresses::{Addresses, Owner},
    rules::{ID, MAIL, PROXY_ADDRESSES, USER_PRINCIPAL_NAME},
    table::Table,
};
pub use self::{
    config::{DirectoryConfig, DirectoryMode},
    rules::{DirectoryKey, DirectoryRules, InvalidDirectoryKey, KeyField},
    snapshot::{
        Choice, DirectorySnapshot, KnownDirectory, Situation, are_of_the_same_run, choose, expected_directory,
        is_directory,
    },
    table::Person,
};
use crate::{
    json::members::{elements, members, string_value},
    person_id::PersonId,
    similar::most_similar,
};

/// A directory needs more memory than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory does not fit into {limit} bytes: its first {people} people take them all")]
pub struct DirectoryTooLarge {
    /// The bound in bytes.
    pub limit: usize,
    /// How many people the table had when it reached the bound.
    pub people: usize,
    /// How many bytes these people take, without free room.
    pub content: usize,
}

impl DirectoryTooLarge {
    /// A bound that is large enough for a directory of `people` people, in bytes. The table grows by doubling, so it
    /// needs up to twice the size of its content.
    pub fn needed(&self, people: u64) -> u64 {
        let people = people.max(self.people as u64 + 1);
        let content = u128::from(self.content as u64) * u128::from(people) / self.people.max(1) as u128;
        u64::try_from(2 * content).unwrap_or(u64::MAX)
    }
}

/// Names of directory columns that are known (BasicDataSet_v0.User_v1). A customer may leave out any of them.
const COLUMNS: [&str; 11] = [
    ID,
    MAIL,
    USER_PRINCIPAL_NAME,
    PROXY_ADDRESSES,
    "displayName",
    "department",
    "jobTitle",
    "companyName",
    "country",
    "accountEnabled",
    "manager",
];

/// 128 bits that stand for an id or an address: the bytes of a GUID, or a hash of any other lower-case text.
type Key = [u8; 16];

fn id_key(text: &[u8]) -> Key {
    PersonId::parse(text).map_or_else(|| hashed(b"id", text), PersonId::into_bytes)
}

/// The columns that an address may come from, in the order in which they are looked up.
const ADDRESS_COLUMNS: [&str; 3] = [MAIL, USER_PRINCIPAL_NAME, PROXY_ADDRESSES];

/// The key of an address that comes from `column`; `None` if it is blank.
fn address_key(column: &str, address: &[u8]) -> Option<Key> {
    (!address.trim_ascii().is_empty()).then(|| hashed(column.as_bytes(), address))
}

/// The first half of the SHA-256 of the lower-case text.
fn hashed(kind: &[u8], text: &[u8]) -> Key {
    let lower = String::from_utf8_lossy(text).to_lowercase();
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(lower).finalize();
    let mut key = Key::default();
    key.copy_from_slice(&digest[..16]);
    key
}

/// Builds a [`Directory`] from the rows of a directory export.
pub struct DirectoryBuilder {
    rules: DirectoryRules,
    /// The column number of each directory column that is joined, by name; a name may be joined twice.
    numbers: HashMap<Vec<u8>, Vec<usize>>,
    /// By column number: whether a row has the column.
    seen: Vec<bool>,
    table: Table,
    addresses: Addresses,
}

impl DirectoryBuilder {
    /// An empty directory.
    pub fn new(rules: &DirectoryRules) -> Self {
        let mut numbers: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (number, name) in rules.columns.iter().enumerate() {
            numbers.entry(name.as_bytes().to_vec()).or_default().push(number);
        }
        Self {
            rules: rules.clone(),
            numbers,
            seen: vec![false; rules.columns.len()],
            table: Table::default(),
            addresses: Addresses::default(),
        }
    }

    /// Adds decoded rows. If an id repeats, the last row counts. A row without an id is skipped.
    pub fn push<'a>(&mut self, rows: impl Iterator<Item = &'a [u8]>) -> Result<(), DirectoryTooLarge> {
        for row in rows {
            self.add(row)?;
        }
        Ok(())
    }

    fn add(&mut self, row: &[u8]) -> Result<(), DirectoryTooLarge> {
        let mut values: Vec<&[u8]> = vec![b"null"; self.rules.columns.len()];
        let (mut id, mut addresses) = (None, [None; 3]);
        for member in members(row) {
            for &number in self.numbers.get(&*member.name).into_iter().flatten() {
                values[number] = member.value;
                self.seen[number] = true;
            }
            match &*member.name {
                name if name == ID.as_bytes() => id = string_value(member.value),
                name if name == MAIL.as_bytes() => addresses[0] = Some(member.value),
                name if name == USER_PRINCIPAL_NAME.as_bytes() => addresses[1] = Some(member.value),
                name if name == PROXY_ADDRESSES.as_bytes() => addresses[2] = Some(member.value),
                _ => {}
            }
        }
        let Some(id) = id else { return Ok(()) };
        let addresses = if self.rules.key.field == KeyField::Mail { address_keys(addresses) } else { Vec::new() };
        // Before they grow: for a moment, a table that grows takes its old memory as well as the new one.
        self.expect_room_for(self.table.growth() + self.addresses.growth(addresses.len()))?;
        let (person, previous) = self.table.set(id_key(&id), &values);
        if self.rules.key.field == KeyField::Mail {
            self.addresses.add(person, addresses, previous);
        }
        self.expect_room_for(0)
    }

    fn expect_room_for(&self, additional: usize) -> Result<(), DirectoryTooLarge> {
        let limit = self.rules.memory;
        if self.table.bytes() + self.addresses.bytes() + additional <= limit {
            return Ok(());
        }
        let content = self.table.content() + self.addresses.content();
        Err(DirectoryTooLarge { limit, people: self.table.len(), content })
    }

    /// The directory of all rows so far.
    pub fn finish(mut self) -> Directory {
        self.addresses.finish();
        let names = self.rules.columns.iter().enumerate().map(|(number, name)| {
            let comma = if number > 0 { "," } else { "" };
            format!("{comma}{}:", serde_json::to_string(name).expect("a string is always JSON")).into_bytes()
        });
        let names = names.collect();
        let columns = self.rules.columns.into_iter().zip(self.seen).filter(|_| self.table.len() > 0);
        let unknown_columns = columns.filter(|(name, is_seen)| !is_seen && !COLUMNS.contains(&name.as_str()));
        let unknown_columns = unknown_columns.map(|(name, _)| name).collect();
        Directory { names, unknown_columns, key: self.rules.key, table: self.table, addresses: self.addresses }
    }
}

/// The addresses of a person, from the JSON texts of `mail`, `userPrincipalName` and `proxyAddresses`.
fn address_keys([mail, user_principal_name, proxy_addresses]: [Option<&[u8]>; 3]) -> Vec<Key> {
    let name = |column, value: Option<&[u8]>| address_key(column, &value.and_then(string_value)?);
    let mut keys =
        Vec::from_iter([name(MAIL, mail), name(USER_PRINCIPAL_NAME, user_principal_name)].into_iter().flatten());
    for alias in proxy_addresses.into_iter().flat_map(elements).filter_map(string_value) {
        let Some((scheme, address)) = alias.split_at_checked(5) else { continue };
        if scheme.eq_ignore_ascii_case(b"smtp:") {
            keys.extend(address_key(PROXY_ADDRESSES, address));
        }
    }
    keys
}

/// A lookup table of people. Its memory is zeroed when it is freed, as all memory of the process is.
pub struct Directory {
    /// Of each column: a comma unless it is the first, the name as JSON, and a colon.
    names: Vec<Vec<u8>>,
    unknown_columns: Vec<String>,
    key: DirectoryKey,
    table: Table,
    addresses: Addresses,
}

impl Directory {
    /// The columns to join that nobody has and that are not known, one sentence each: most are typing errors.
    pub fn unknown_columns(&self) -> impl Iterator<Item = String> {
        self.unknown_columns.iter().map(|name| {
            let hint = most_similar(name, COLUMNS).map(|known| format!(" (a column of the directory is `{known}`)"));
            format!("nobody in the directory has the column `{name}`, so it is null{}", hint.unwrap_or_default())
        })
    }

    /// The number of people.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The approximate size in bytes.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.addresses.bytes()
    }

    /// Whether the directory has no people.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The column of a row whose text is looked up.
    pub fn key_column(&self) -> &str {
        &self.key.column
    }

    /// Finds the person of a row whose key column has the text `key`.
    pub fn find(&self, key: &[u8]) -> Option<Person> {
        match self.key.field {
            KeyField::Id => self.table.find(&id_key(key)),
            // The first column in which somebody has the address decides.
            KeyField::Mail => ADDRESS_COLUMNS
                .into_iter()
                .find_map(|column| self.addresses.find(&address_key(column, key)?))
                .and_then(Owner::person),
        }
    }

    /// Finds the person with this id, whatever the key column is.
    pub fn find_by_id(&self, id: PersonId) -> Option<Person> {
        self.table.find(&id.into_bytes())
    }

    /// The JSON texts of the columns of the person with this id, in the order of the rules.
    pub fn values(&self, id: PersonId) -> Option<impl Iterator<Item = &[u8]>> {
        self.table.find(&id.into_bytes()).map(|person| self.table.values(person))
    }

    /// The most bytes that [`append`](Self::append) adds for a person.
    pub fn longest_entry(&self) -> usize {
        let braces = 2;
        self.names.iter().map(Vec::len).sum::<usize>() + self.table.longest + braces
    }

    /// Appends the value of the `directory` member: a JSON object, or `null` without a person.
    pub fn append(&self, person: Option<Person>, out: &mut Vec<u8>) {
        let Some(person) = person else {
            out.extend_from_slice(b"null");
            return;
        };
        out.push(b'{');
        for (name, value) in self.names.iter().zip(self.table.values(person)) {
            out.extend_from_slice(name);
            out.extend_from_slice(value);
        }
        out.push(b'}');
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("people", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
