//! egret_mta::delivery::reply::fuzz_replies under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::delivery::reply::fuzz_replies(bytes));
