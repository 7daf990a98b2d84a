//! Server machines for what clients say first: a SOCKS5 dialogue. Floor 1. Reads no socket and chooses
//! no source: it says what the client asks for, and is told the answer. PROXY headers are one message
//! and need no machine: `egret_shared::proxy_protocol` scans them. `detect` tells one from the other.

pub mod detect;
pub mod socks5;
