//! Reads bits from bytes, least significant bit first (RFC 1951, section 3.1.1).

/// Bits that were read from the input and are not consumed yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    /// The bits; the next one is the least significant. All bits above `count` are zero.
    pub(crate) buffer: u64,
    /// How many bits there are: at most 63.
    pub(crate) count: u32,
}

impl Bits {
    /// Reads bytes until there are at least 56 bits, or the input is used up.
    pub(crate) fn fill(&mut self, input: &mut &[u8]) {
        while self.count < 56
            && let Some((&byte, rest)) = input.split_first()
        {
            self.buffer |= u64::from(byte) << self.count;
            self.count += 8;
            *input = rest;
        }
    }

    /// Consumes `count` bits, at most 32, and returns them as a number; or `None` if there are fewer.
    pub(crate) fn number(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let number = self.buffer & ((1 << count) - 1);
        self.consume(count).then_some(number as u32)
    }

    /// Consumes `count` bits. Returns `false`, and consumes none, if there are fewer.
    pub(crate) fn consume(&mut self, count: u32) -> bool {
        let are_there = count <= self.count;
        if are_there {
            self.buffer >>= count;
            self.count -= count;
        }
        are_there
    }

    /// Consumes the rest of the byte that the next bit belongs to, unless that bit is its first one.
    pub(crate) fn align(&mut self) {
        self.consume(self.count % 8);
    }

    /// Consumes the next eight bits, if there are as many.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = self.buffer as u8;
        self.consume(8).then_some(byte)
    }
}
