//! egret_mta::dns::sts::policy::fuzz_sts under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_mta::dns::sts::policy::fuzz_sts(bytes));
