//! egret_mta::delivery::dialogue::fuzz_dialogue under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::delivery::dialogue::fuzz_dialogue(bytes));
