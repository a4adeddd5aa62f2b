//! The bits of a byte stream, lowest first, as RFC 1951 packs them.

/// Bits that were taken from the stream and not used yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bits {
    /// The bits, the next one lowest. Those above `count` are zero.
    pub(super) buffer: u64,
    /// How many there are, at most 63.
    pub(super) count: u32,
}

impl Bits {
    /// Takes bytes until there are at least 56 bits, or no more bytes.
    pub(super) fn fill(&mut self, bytes: &mut &[u8]) {
        while self.count < 56
            && let Some((&byte, rest)) = bytes.split_first()
        {
            self.buffer |= u64::from(byte) << self.count;
            self.count += 8;
            *bytes = rest;
        }
    }

    /// The next `count` bits as a number, or `None` when they are not all there yet.
    pub(super) fn number(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let number = self.buffer & ((1 << count) - 1);
        self.skip(count).then_some(number as u32)
    }

    /// Takes `count` bits off; or none, and says so, when they are not all there.
    pub(super) fn skip(&mut self, count: u32) -> bool {
        let is_there = count <= self.count;
        if is_there {
            self.buffer >>= count;
            self.count -= count;
        }
        is_there
    }

    /// Leaves out what is left of the byte that was begun.
    pub(super) fn align(&mut self) {
        self.skip(self.count % 8);
    }

    /// The next whole byte among the bits.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = self.buffer as u8;
        self.skip(8).then_some(byte)
    }
}
