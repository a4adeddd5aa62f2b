#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vivadrop_fuzz::definitions::check(bytes));
