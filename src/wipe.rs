//! What a computation leaves on the stack: copies of values that were moved, registers that were spilled. Types that zero
//! themselves on drop, and an allocator that does, reach neither; what a deeper call left there is overwritten here.

use std::hint::black_box;

use zeroize::Zeroize;

/// How deep is overwritten, in bytes: more than the calls take that handle keys.
const DEPTH: usize = 64 << 10;

/// Does `work`, then overwrites the stack that it used. What it returns holds no key itself, at most points to one.
#[inline(never)]
pub fn with_stack_wiped<T>(work: impl FnOnce() -> T) -> T {
    let done = below(work);
    overwrite();
    done
}

/// In a frame of its own, so that nothing of it is in the caller's.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn overwrite() {
    // By words: every store is volatile, and bytes would take eight times as long.
    let mut stack = [!0_u64; DEPTH / size_of::<u64>()];
    stack.zeroize();
    black_box(&stack);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_computed_comes_back() {
        let text = with_stack_wiped(|| String::from("as it was"));
        assert_eq!(with_stack_wiped(|| text.len()), 9);
    }
}
