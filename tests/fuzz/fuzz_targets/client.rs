//! egret_shared::socks5::client::fuzz_client under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_shared::socks5::client::fuzz_client(bytes));
