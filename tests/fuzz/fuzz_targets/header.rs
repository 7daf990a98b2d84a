//! egret_shared::proxy_protocol::frame::fuzz_header under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_shared::proxy_protocol::frame::fuzz_header(bytes));
