//! Which person has which e-mail address.

use std::{hash::RandomState, mem};

use hashbrown::{HashTable, hash_table::Entry};

use super::{
    Key,
    table::{Person, hash},
};

/// The record or records that have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    One(Person),
    /// [`Addresses::finish`] looks at the list `shared`. After it, two people share the address.
    Several,
}

impl Owner {
    /// The person; `None` if two people share the address.
    pub(super) fn person(self) -> Option<Person> {
        match self {
            Self::One(person) => Some(person),
            Self::Several => None,
        }
    }
}

/// The addresses of all people. While rows are added, the addresses of replaced records are included.
#[derive(Default)]
pub(super) struct Addresses {
    hasher: RandomState,
    owners: HashTable<(Key, Owner)>,
    /// The records of each address that has several, in any order.
    shared: Vec<(Key, Person)>,
    /// The records that were replaced by a later record of the same person.
    replaced: Vec<Person>,
}

impl Addresses {
    /// The bytes that the addresses take, free room included.
    pub(super) fn bytes(&self) -> usize {
        self.owners.allocation_size() + size_of_lists(self.shared.capacity(), self.replaced.capacity())
    }

    /// The bytes of the addresses, without free room.
    pub(super) fn content(&self) -> usize {
        self.owners.len() * (size_of::<(Key, Owner)>() + 1) * 8 / 7
            + size_of_lists(self.shared.len(), self.replaced.len())
    }

    /// How many bytes more the addresses take after this number of new ones.
    pub(super) fn growth(&self, additional: usize) -> usize {
        let room = self.owners.capacity() - self.owners.len();
        if additional > room { self.owners.allocation_size() } else { 0 }
    }

    /// Adds the addresses of the record `person`, which replaces the record `previous`.
    pub(super) fn add(&mut self, person: Person, mut addresses: Vec<Key>, previous: Option<Person>) {
        self.replaced.extend(previous);
        // A person may have an address in several columns.
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            let hasher = &self.hasher;
            let is_same = |(other, _): &(Key, Owner)| *other == address;
            match self.owners.entry(hash(hasher, &address), is_same, |(other, _)| hash(hasher, other)) {
                Entry::Vacant(entry) => {
                    entry.insert((address, Owner::One(person)));
                }
                Entry::Occupied(mut entry) => {
                    let owner = &mut entry.get_mut().1;
                    match *owner {
                        Owner::One(other) if Some(other) == previous => *owner = Owner::One(person),
                        Owner::One(other) => {
                            *owner = Owner::Several;
                            self.shared.extend([(address, other), (address, person)]);
                        }
                        Owner::Several => self.shared.push((address, person)),
                    }
                }
            }
        }
    }

    /// Removes the addresses of replaced records, and frees the lists. Must be called once, after the last record.
    pub(super) fn finish(&mut self) {
        let (mut shared, mut replaced) = (mem::take(&mut self.shared), mem::take(&mut self.replaced));
        if replaced.is_empty() {
            return;
        }
        replaced.sort_unstable();
        let is_current = |person: &Person| replaced.binary_search(person).is_err();
        shared.retain(|(_, person)| is_current(person));
        shared.sort_unstable();
        self.owners.retain(|(address, owner)| match owner {
            Owner::One(person) => is_current(person),
            Owner::Several => {
                let start = shared.partition_point(|(other, _)| other < address);
                let mut people = shared[start..].iter().take_while(|(other, _)| other == address);
                match (people.next(), people.next()) {
                    (None, _) => false,
                    (Some((_, person)), None) => {
                        *owner = Owner::One(*person);
                        true
                    }
                    (Some(_), Some(_)) => true,
                }
            }
        });
    }

    /// The owner of this address; `None` if nobody has it.
    pub(super) fn find(&self, address: &Key) -> Option<Owner> {
        self.owners.find(hash(&self.hasher, address), |(other, _)| other == address).map(|(_, owner)| *owner)
    }
}

fn size_of_lists(shared: usize, replaced: usize) -> usize {
    shared * size_of::<(Key, Person)>() + replaced * size_of::<Person>()
}
