//! egret_shared::socks5::frame::fuzz_reply under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_shared::socks5::frame::fuzz_reply(bytes));
