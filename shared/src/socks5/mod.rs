//! SOCKS5 (RFC 1928, RFC 1929) and KumoMTA's dialect of it: bytes only, and the client's machine.
//! `frame` is floor 1, `client` floor 1. Neither knows a socket.

pub mod client;
pub mod frame;
