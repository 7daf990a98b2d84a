//! egret_mta::spool::fuzz_records under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::spool::fuzz_records(bytes));
