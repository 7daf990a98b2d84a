//! egret_mta::bounce::fuzz_report under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::bounce::fuzz_report(bytes));
