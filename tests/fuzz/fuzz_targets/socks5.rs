//! egret_proxy::handshake::socks5::fuzz_socks5 under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egret_proxy::handshake::socks5::fuzz_socks5(bytes));
