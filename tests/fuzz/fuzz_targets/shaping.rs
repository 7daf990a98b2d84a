//! egret_mta::config::fuzz_shaping under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::config::fuzz_shaping(bytes));
