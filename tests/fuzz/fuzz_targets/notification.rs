//! egret_mta::reception::fuzz_notification under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::reception::fuzz_notification(bytes));
