//! A pool of reusable buffers, so that a file of any size allocates its memory once. Our allocator zeroes memory that is
//! freed, which would otherwise cost time for every block.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// A pool of buffers. A buffer returns to its pool when it is dropped, on whichever thread that happens. So a pool never has
/// more buffers than were in use at once.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer, which returns to its pool when it is dropped. Dereferences to the `Vec` of its bytes.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    /// `None` if the buffer belongs to no pool.
    pool: Option<Buffers>,
}

impl Buffers {
    /// Takes an empty buffer with a capacity of at least `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Buffer {
        let mut buffer = self.take_uncleared();
        buffer.clear();
        buffer.reserve(capacity);
        buffer
    }

    /// Takes a buffer with the contents that it was returned with, or a new, empty one. This saves clearing the buffer and
    /// filling it again, if the caller overwrites it anyway.
    pub fn take_uncleared(&self) -> Buffer {
        let bytes = self.returned().pop().unwrap_or_default();
        Buffer { bytes, pool: Some(self.clone()) }
    }

    /// The buffers that are not in use.
    fn returned(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// The bytes as shared memory, which returns to the pool when the last reference to it is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            let bytes = std::mem::take(&mut self.bytes);
            pool.returned().push(bytes);
        }
    }
}

impl<T: Into<Vec<u8>>> From<T> for Buffer {
    /// Wraps bytes that belong to no pool.
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), pool: None }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Clone for Buffer {
    /// Copies the bytes to a buffer that belongs to no pool.
    fn clone(&self) -> Self {
        Self::from(self.bytes.clone())
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Buffer {}

impl fmt::Debug for Buffer {
    /// Prints the length, but not the bytes, which are confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
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
