//! The lookup table of people and the values of their columns.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::Key;

/// Ends the text of each value in the arena. A row is one line, so no value contains a line feed.
const END_OF_VALUE: u8 = b'\n';

/// A person in a [`Directory`](super::Directory): where their values begin in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person(usize);

/// People and the values of their columns.
///
/// A lookup reads two places of memory, the entry and the values. In a large table each is a cache miss, and these
/// misses take most of the time of a join.
#[derive(Default)]
pub(super) struct Table {
    hasher: RandomState,
    people: HashTable<(Key, Person)>,
    /// The JSON texts of all values, each followed by [`END_OF_VALUE`].
    arena: Vec<u8>,
    columns: usize,
    /// The most bytes of the arena that one person takes.
    pub(super) longest: usize,
}

impl Table {
    /// The number of people.
    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// The bytes that the table takes, free room included.
    pub(super) fn bytes(&self) -> usize {
        self.people.allocation_size() + self.arena.capacity()
    }

    /// The bytes of the people and their values, without free room.
    pub(super) fn content(&self) -> usize {
        self.people.len() * (size_of::<(Key, Person)>() + 1) * 8 / 7 + self.arena.len()
    }

    /// Sets the values of a person.
    pub(super) fn set(&mut self, key: Key, values: &[&[u8]]) {
        self.columns = values.len();
        let person = Person(self.arena.len());
        for value in values {
            self.arena.extend_from_slice(value);
            self.arena.push(END_OF_VALUE);
        }
        self.longest = self.longest.max(self.arena.len() - person.0);
        let hasher = &self.hasher;
        self.people
            .entry(hash(hasher, &key), |(other, _)| *other == key, |(other, _)| hash(hasher, other))
            .insert((key, person));
    }

    pub(super) fn find(&self, key: &Key) -> Option<Person> {
        self.people.find(hash(&self.hasher, key), |(other, _)| other == key).map(|&(_, person)| person)
    }

    pub(super) fn values(&self, Person(start): Person) -> impl Iterator<Item = &[u8]> {
        self.arena[start..].split(|&byte| byte == END_OF_VALUE).take(self.columns)
    }
}

fn hash(hasher: &RandomState, key: &Key) -> u64 {
    // As a number, because a hasher adds the length of an array to its bytes.
    hasher.hash_one(u128::from_ne_bytes(*key))
}
