//! egret_shared::sockets::claim::fuzz_claim under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_shared::sockets::claim::fuzz_claim(bytes));
