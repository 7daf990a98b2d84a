//! egret_shared::registry::record::fuzz_record under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_shared::registry::record::fuzz_record(bytes));
