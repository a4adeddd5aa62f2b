//! A pool of reusable buffers, so that a file of any size allocates its memory once. Our allocator zeroes memory that
//! is freed, which would otherwise cost time for every block.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// A pool of buffers, most of them of bytes. A buffer returns to its pool when it is dropped, on whichever thread that
/// happens. So a pool never has more buffers than were in use at once.
pub struct Buffers<T = u8> {
    returned: Arc<Mutex<Vec<Vec<T>>>>,
    /// The capacity of the largest buffer that returns, in items.
    max_capacity: usize,
}

/// A buffer, which returns to its pool when it is dropped. Dereferences to the `Vec` of its items.
pub struct Buffer<T = u8> {
    items: Vec<T>,
    /// `None` if the buffer belongs to no pool.
    pool: Option<Buffers<T>>,
}

impl<T> Buffers<T> {
    /// A pool to which no buffer with a capacity of more than `max_capacity` items returns: one that an unusual block
    /// has made large is freed instead.
    pub fn up_to(max_capacity: usize) -> Self {
        Self { returned: Arc::default(), max_capacity }
    }

    /// Takes an empty buffer with a capacity of at least `capacity` items.
    pub fn take(&self, capacity: usize) -> Buffer<T> {
        let mut buffer = self.take_uncleared();
        buffer.clear();
        buffer.reserve(capacity);
        buffer
    }

    /// Takes a buffer with the contents that it was returned with, or a new, empty one. This saves clearing the buffer
    /// and filling it again, if the caller overwrites it anyway.
    pub fn take_uncleared(&self) -> Buffer<T> {
        let items = self.lock().pop().unwrap_or_default();
        Buffer { items, pool: Some(self.clone()) }
    }

    /// The buffers that are not in use.
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<T>>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// The bytes as shared memory, which returns to the pool when the last reference to it is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl<T> Default for Buffers<T> {
    /// A pool to which every buffer returns.
    fn default() -> Self {
        Self::up_to(usize::MAX)
    }
}

impl<T> Clone for Buffers<T> {
    /// Another handle to the same pool.
    fn clone(&self) -> Self {
        Self { returned: Arc::clone(&self.returned), max_capacity: self.max_capacity }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.items
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool
            && self.items.capacity() <= pool.max_capacity
        {
            let items = std::mem::take(&mut self.items);
            pool.lock().push(items);
        }
    }
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    /// Wraps items that belong to no pool.
    fn from(items: Vec<T>) -> Self {
        Self { items, pool: None }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.items
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.items
    }
}

impl<T: Clone> Clone for Buffer<T> {
    /// Copies the items to a buffer that belongs to no pool.
    fn clone(&self) -> Self {
        Self::from(self.items.clone())
    }
}

impl<T: PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl<T: Eq> Eq for Buffer<T> {}

impl<T> fmt::Debug for Buffer<T> {
    /// Prints the length, but not the items, which are confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", self.items.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_reused_empty() {
        let buffers = Buffers::default();
        let mut first = buffers.take(10);
        first.extend_from_slice(b"some text");
        let address = first.as_ptr();
        let second = buffers.take(10);
        assert_ne!(second.as_ptr(), address);
        drop(first);
        let reused = buffers.take(5);
        assert_eq!((reused.as_ptr(), reused.len()), (address, 0));
    }

    #[test]
    fn a_buffer_above_the_limit_of_its_pool_is_freed() {
        let buffers = Buffers::<u64>::up_to(100);
        buffers.take(101);
        assert_eq!(buffers.take(0).capacity(), 0);
        buffers.take(100);
        assert_eq!(buffers.take(0).capacity(), 100);
    }

    #[test]
    fn a_buffer_may_be_taken_with_its_old_contents() {
        let buffers = Buffers::default();
        buffers.take(10).extend_from_slice(b"some text");
        assert_eq!(*buffers.take_uncleared(), b"some text");
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let mut buffer = Buffers::default().take(0);
        buffer.push(7);
        assert_eq!(*buffer, [7]);
    }
}
