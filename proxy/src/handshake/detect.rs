//! What a client speaks, by its first byte. Pure. Floor 1.

/// What the first byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// SOCKS5: its version.
    Socks5,
    /// A PROXY header: `PROXY` of version 1, or the signature of version 2.
    Proxy,
    /// A TLS handshake record.
    Tls,
    /// None of them.
    Unknown,
}

/// Tells by the first byte.
pub fn speech(first: u8) -> Speech {
    match first {
        0x05 => Speech::Socks5,
        b'P' | b'\r' => Speech::Proxy,
        0x16 => Speech::Tls,
        _ => Speech::Unknown,
    }
}
