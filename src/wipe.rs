//! Overwrites the stack after a computation that used keys. Values that were moved and registers that were saved leave
//! copies on the stack, which neither types that zero themselves on drop nor an allocator that zeroes freed memory can
//! reach.

use std::hint::black_box;

use zeroize::Zeroize;

/// How many bytes of the stack are overwritten: more than the computations with keys use.
const DEPTH: usize = 64 << 10;

/// Does `work`, then overwrites the part of the stack that it used. The value that it returns must not contain a key;
/// it may point to one.
#[inline(never)]
pub fn with_stack_wiped<T>(work: impl FnOnce() -> T) -> T {
    let result = in_own_frame(work);
    overwrite();
    result
}

/// Does `work` in a stack frame below the caller's, so that none of its values are in the caller's frame.
#[inline(never)]
fn in_own_frame<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn overwrite() {
    // Words, because each store is volatile: bytes would take eight times as long.
    let mut stack = [!0_u64; DEPTH / size_of::<u64>()];
    stack.zeroize();
    black_box(&stack);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_the_work_is_returned() {
        let text = with_stack_wiped(|| String::from("text"));
        assert_eq!(with_stack_wiped(|| text.len()), 4);
    }
}
