//! Buffers that are used again. A file of any size then takes memory from the system once, and what the allocator does with
//! memory that is given back (ours zeroes it) is done once as well.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// Gives out buffers. They come back when they are dropped, whichever thread that happens on; so there are never more of
/// them than were out at once.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// Bytes in a buffer that goes back to where it was given out.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    home: Option<Buffers>,
}

impl Buffers {
    /// An empty buffer with room for `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Buffer {
        let mut buffer = self.again();
        buffer.clear();
        buffer.reserve(capacity);
        buffer
    }

    /// A buffer that is filled with at least `length` bytes, whatever they are.
    pub fn take_filled(&self, length: usize) -> Buffer {
        let mut buffer = self.again();
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        buffer
    }

    /// The buffer that came back last, as it was; or a new one.
    fn again(&self) -> Buffer {
        Buffer { bytes: self.at_home(Vec::pop).unwrap_or_default(), home: Some(self.clone()) }
    }

    fn at_home<T>(&self, work: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let bytes = std::mem::take(&mut self.bytes);
            home.at_home(|buffers| buffers.push(bytes));
        }
    }
}

impl<T: Into<Vec<u8>>> From<T> for Buffer {
    /// Bytes that go back nowhere.
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), home: None }
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
    /// How much there is, and nothing of what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_comes_back_is_given_out_again_empty() {
        let buffers = Buffers::default();
        let mut first = buffers.take(10);
        first.extend_from_slice(b"some text");
        let place = first.as_ptr();
        let second = buffers.take(10);
        assert_ne!(second.as_ptr(), place);
        drop(first);
        let again = buffers.take(5);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn a_buffer_outlives_where_it_came_from() {
        let mut buffer = Buffers::default().take(0);
        buffer.push(7);
        assert_eq!(*buffer, [7]);
    }
}
