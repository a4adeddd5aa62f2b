//! The sums of each person, in a compact table.
//!
//! A person costs 18 bytes for the id and the weeks, 9 bytes for each attribute, and 5 to 10 bytes in the index. Rows
//! of people are kept in chunks, so that the table grows without copying and its size is known exactly.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::{
    buffers::{Buffer, Buffers},
    person_id::PersonId,
};

/// People in a chunk.
const CHUNK: usize = 4096;

/// The minimum size of an entry of the index in bytes: a number and a control byte, in an index that is at most seven
/// eighths full.
const INDEX_BYTES: usize = (size_of::<u32>() + 1) * 8 / 7 + 1;

/// The table would need more memory than it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are more people than {limit} bytes have room for")]
pub struct TooManyPeople {
    /// The bound in bytes.
    pub limit: usize,
}

/// Sums and counts of every person's attributes over the weeks of a window.
pub(super) struct People {
    attributes: usize,
    limit: usize,
    hasher: IdHasher,
    index: HashTable<u32>,
    chunks: Vec<Chunk>,
    len: usize,
    /// The number of the person of each row that is being added.
    numbers: Vec<usize>,
}

/// Hashes the 16 bytes of an id with two random keys: one multiplication, which mixes all bits. The ids of a drop are
/// chosen by the customer, who does not know the keys.
#[derive(Clone, Copy)]
struct IdHasher([u64; 2]);

impl IdHasher {
    fn new() -> Self {
        let random = RandomState::new();
        Self([0, 1].map(|number| random.hash_one(number)))
    }

    fn hash(self, id: PersonId) -> u64 {
        let bytes = u128::from_be_bytes(id.into_bytes());
        let (high, low) = ((bytes >> 64) as u64, bytes as u64);
        let product = u128::from(high ^ self.0[0]) * u128::from(low ^ self.0[1]);
        (product >> 64) as u64 ^ product as u64
    }
}

/// Up to [`CHUNK`] people, column by column.
struct Chunk {
    ids: Vec<PersonId>,
    /// A bit for each week that counts.
    weeks: Vec<u16>,
    /// By person, then by attribute: the sum in billionths. Twelve weeks of less than 1e18 each fit.
    sums: Vec<u64>,
    /// By person, then by attribute: how many weeks have a number.
    counts: Vec<u8>,
}

impl Chunk {
    /// Adds the values of a row to the person at `at`, unless the person has a row of that week.
    fn add(&mut self, at: usize, week: u8, values: &[(u32, u64)], attributes: usize) {
        let week = 1 << week;
        if self.weeks[at] & week != 0 {
            return;
        }
        self.weeks[at] |= week;
        let own = at * attributes..(at + 1) * attributes;
        let (sums, counts) = (&mut self.sums[own.clone()], &mut self.counts[own]);
        for &(attribute, value) in values {
            sums[attribute as usize] += value;
            counts[attribute as usize] += 1;
        }
    }
}

/// The values of rows, and whose they are.
#[derive(Debug, Default)]
pub(super) struct PersonRows {
    rows: Buffer<PersonRow>,
    /// The numbers of the attributes that have a value, and the values in billionths, row by row.
    values: Buffer<(u32, u64)>,
}

/// The memory of [`PersonRows`], reused from block to block.
#[derive(Default)]
pub(super) struct PersonRowsBuffers {
    rows: Buffers<PersonRow>,
    values: Buffers<(u32, u64)>,
}

impl PersonRowsBuffers {
    /// No rows.
    pub(super) fn take(&self) -> PersonRows {
        PersonRows { rows: self.rows.take(0), values: self.values.take(0) }
    }
}

#[derive(Debug, Clone, Copy)]
struct PersonRow {
    id: PersonId,
    /// The number of the week in the window.
    week: u8,
    /// How many values the row has.
    values: usize,
}

impl PersonRows {
    /// Adds a row with the value of each attribute, in order.
    pub(super) fn push(&mut self, id: PersonId, week: u8, values: impl Iterator<Item = Option<u64>>) {
        let before = self.values.len();
        self.values.extend((0..).zip(values).filter_map(|(attribute, value)| Some((attribute, value?))));
        self.rows.push(PersonRow { id, week, values: self.values.len() - before });
    }
}

/// A person's weeks and attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person<'a> {
    pub(super) id: PersonId,
    /// How many weeks count.
    pub(super) weeks: u32,
    sums: &'a [u64],
    counts: &'a [u8],
}

impl Person<'_> {
    /// The sum of an attribute in billionths and the number of weeks that have a value; `None` if no week has one.
    pub(super) fn attribute(&self, number: usize) -> Option<(u64, u8)> {
        let count = self.counts[number];
        (count > 0).then(|| (self.sums[number], count))
    }
}

impl People {
    /// A table for people with `attributes` attributes that takes at most `limit` bytes.
    pub(super) fn new(attributes: usize, limit: usize) -> Self {
        Self {
            attributes,
            limit,
            hasher: IdHasher::new(),
            index: HashTable::new(),
            chunks: Vec::new(),
            len: 0,
            numbers: Vec::new(),
        }
    }

    /// Allows the table to take `limit` bytes.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The bytes that the table takes.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * self.bytes_per_person()
    }

    fn bytes_per_person(&self) -> usize {
        size_of::<PersonId>() + size_of::<u16>() + INDEX_BYTES + self.attributes * 9
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds rows. Only the first row of a person and week counts; later ones change nothing.
    ///
    /// Each row causes about five cache misses. The two loops are short, so that the processor waits for the misses of
    /// several rows at once.
    pub(super) fn add(&mut self, rows: &PersonRows) -> Result<(), TooManyPeople> {
        self.numbers.clear();
        for &PersonRow { id, .. } in rows.rows.iter() {
            let number = self.find_or_insert(id)?;
            self.numbers.push(number);
        }
        let mut values = &rows.values[..];
        for (&number, row) in self.numbers.iter().zip(rows.rows.iter()) {
            let (own, others) = values.split_at(row.values);
            values = others;
            self.chunks[number / CHUNK].add(number % CHUNK, row.week, own, self.attributes);
        }
        Ok(())
    }

    /// All people, by id.
    pub(super) fn sorted(&self) -> impl Iterator<Item = Person<'_>> {
        let mut numbers: Vec<u32> = (0..self.len as u32).collect();
        numbers.sort_unstable_by_key(|&number| self.id(number));
        numbers.into_iter().map(|number| self.person(number))
    }

    /// All people, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Person<'_>> {
        (0..self.len as u32).map(|number| self.person(number))
    }

    fn person(&self, number: u32) -> Person<'_> {
        let (chunk, at) = self.place(number);
        let attributes = at * self.attributes..(at + 1) * self.attributes;
        Person {
            id: chunk.ids[at],
            weeks: chunk.weeks[at].count_ones(),
            sums: &chunk.sums[attributes.clone()],
            counts: &chunk.counts[attributes],
        }
    }

    fn id(&self, number: u32) -> PersonId {
        let (chunk, at) = self.place(number);
        chunk.ids[at]
    }

    fn place(&self, number: u32) -> (&Chunk, usize) {
        (&self.chunks[number as usize / CHUNK], number as usize % CHUNK)
    }

    fn find_or_insert(&mut self, id: PersonId) -> Result<usize, TooManyPeople> {
        let hash = self.hasher.hash(id);
        if let Some(&number) = self.index.find(hash, |&number| self.id(number) == id) {
            return Ok(number as usize);
        }
        let number = self.len;
        if number.is_multiple_of(CHUNK) {
            if (number + CHUNK) * self.bytes_per_person() > self.limit {
                return Err(TooManyPeople { limit: self.limit });
            }
            self.chunks.push(Chunk {
                ids: Vec::with_capacity(CHUNK),
                weeks: vec![0; CHUNK],
                sums: vec![0; CHUNK * self.attributes],
                counts: vec![0; CHUNK * self.attributes],
            });
        }
        self.chunks[number / CHUNK].ids.push(id);
        self.len += 1;
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        let hash_of = |&number: &u32| hasher.hash(chunks[number as usize / CHUNK].ids[number as usize % CHUNK]);
        self.index.insert_unique(hash, number as u32, hash_of);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> PersonId {
        PersonId::parse(format!("{number:08x}-1a33-4f2b-9d3c-0a8f6f2d7e10").as_bytes()).unwrap()
    }

    fn add(people: &mut People, id: PersonId, week: u8, values: &[Option<u64>]) -> Result<(), TooManyPeople> {
        let mut rows = PersonRows::default();
        rows.push(id, week, values.iter().copied());
        people.add(&rows)
    }

    #[test]
    fn people_come_in_the_order_of_their_ids() {
        let mut people = People::new(1, usize::MAX);
        for number in (0..10_000).rev() {
            add(&mut people, id(number), 0, &[Some(number.into())]).unwrap();
        }
        assert_eq!(people.len(), 10_000);
        for (number, person) in people.sorted().enumerate() {
            assert_eq!((person.id, person.attribute(0)), (id(number as u32), Some((number as u64, 1))));
        }
    }

    #[test]
    fn the_first_row_of_a_week_counts() {
        let mut people = People::new(2, usize::MAX);
        add(&mut people, id(1), 3, &[Some(5), None]).unwrap();
        add(&mut people, id(1), 3, &[Some(7), Some(7)]).unwrap();
        add(&mut people, id(1), 11, &[Some(1), None]).unwrap();
        let person = people.iter().next().unwrap();
        assert_eq!((person.weeks, person.attribute(0), person.attribute(1)), (2, Some((6, 2)), None));
    }

    #[test]
    fn a_table_that_is_full_takes_nobody_else() {
        let mut people = People::new(10, 1 << 20);
        let full = (0..).find_map(|number| add(&mut people, id(number), 0, &[None; 10]).err());
        assert_eq!(full, Some(TooManyPeople { limit: 1 << 20 }));
        assert_eq!(people.len(), 2 * CHUNK);
        add(&mut people, id(0), 1, &[None; 10]).unwrap();
    }
}
