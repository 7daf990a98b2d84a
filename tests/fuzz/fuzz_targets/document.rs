//! egret_mta::elsewhere::json::fuzz_document under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::elsewhere::json::fuzz_document(bytes));
