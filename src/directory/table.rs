//! The lookup table of people and the values of their columns.

use std::{
    hash::{BuildHasher, RandomState},
    mem,
    num::NonZeroUsize,
};

use hashbrown::{HashTable, hash_table::Entry};

use super::Key;

/// Ends the text of each value in the arena. A row is one line, so no value contains a line feed.
const END_OF_VALUE: u8 = b'\n';

/// A person in a [`Directory`](super::Directory): where the values of their record begin in the arena, plus one. With
/// the zero left out, an enum with a person needs no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person(NonZeroUsize);

impl Person {
    fn at(start: usize) -> Self {
        Self(NonZeroUsize::MIN.saturating_add(start))
    }

    fn start(self) -> usize {
        self.0.get() - 1
    }
}

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

    /// How many bytes more the index takes after a new person.
    pub(super) fn growth(&self) -> usize {
        if self.people.len() == self.people.capacity() { self.people.allocation_size() } else { 0 }
    }

    /// Sets the values of a person. Returns the new record, and the one that it replaces.
    pub(super) fn set(&mut self, key: Key, values: &[&[u8]]) -> (Person, Option<Person>) {
        self.columns = values.len();
        let person = Person::at(self.arena.len());
        for value in values {
            self.arena.extend_from_slice(value);
            self.arena.push(END_OF_VALUE);
        }
        self.longest = self.longest.max(self.arena.len() - person.start());
        let hasher = &self.hasher;
        let is_same = |(other, _): &(Key, Person)| *other == key;
        match self.people.entry(hash(hasher, &key), is_same, |(other, _)| hash(hasher, other)) {
            Entry::Occupied(mut entry) => (person, Some(mem::replace(&mut entry.get_mut().1, person))),
            Entry::Vacant(entry) => {
                entry.insert((key, person));
                (person, None)
            }
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Person> {
        self.people.find(hash(&self.hasher, key), |(other, _)| other == key).map(|&(_, person)| person)
    }

    pub(super) fn values(&self, person: Person) -> impl Iterator<Item = &[u8]> {
        self.arena[person.start()..].split(|&byte| byte == END_OF_VALUE).take(self.columns)
    }
}

/// The hash of a key of a person or an address.
pub(super) fn hash(hasher: &RandomState, key: &Key) -> u64 {
    // As a number, because a hasher adds the length of an array to its bytes.
    hasher.hash_one(u128::from_ne_bytes(*key))
}
