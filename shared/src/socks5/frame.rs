//! SOCKS5 messages as bytes on a slice: greetings, requests, replies (RFC 1928, RFC 1929).
//! Pure. Floor 1.
//! Always: a reply is written whole, with code 0 to 8; a failure carries the numeric reason in
//! BND.ADDR (`0.0.0.n`) and the errno in BND.PORT, which no known client reads as an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::fault::{Fault, Reason};

/// Protocol version of every SOCKS5 message but RFC 1929's.
pub const VERSION: u8 = 5;
/// Version of the username/password sub-negotiation (RFC 1929).
pub const AUTH_VERSION: u8 = 1;
/// The longest message of the handshake: version, command, reserved, a 255 byte domain, port.
pub const MAX_MESSAGE_BYTES: usize = 513;

/// What a scan of bytes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan<T> {
    /// A whole message, and how many bytes it took.
    Got(T, usize),
    /// Bytes are missing; nothing is wrong so far.
    More,
}

/// Bytes that are not SOCKS5.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The first byte is not the version that belongs there.
    #[error("version byte is 0x{0:02x}, not that of SOCKS5")]
    Version(u8),
    /// An address type that RFC 1928 does not know.
    #[error("address type 0x{0:02x} is unknown")]
    AddressType(u8),
}

/// An address as it stands in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 or IPv6 address and port.
    Ip(SocketAddr),
    /// A domain name (any bytes) and port.
    Domain(Vec<u8>, u16),
}

/// A reply to BIND or CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0 is success; 1 to 8 are RFC 1928's failures; anything else comes from odd servers.
    pub code: u8,
    /// BND.ADDR and BND.PORT.
    pub bound: Address,
}

impl Reply {
    /// The numeric reason of egret-proxy, if the reply carries one.
    pub fn reason(&self) -> Option<Reason> {
        match &self.bound {
            Address::Ip(SocketAddr::V4(bound)) if self.code != 0 => match bound.ip().octets() {
                [0, 0, 0, n] if n != 0 => Reason::from_number(n),
                _ => None,
            },
            Address::Domain(text, _) if self.code != 0 => {
                let number = std::str::from_utf8(text).ok()?.strip_prefix("n=")?.split(' ').next()?;
                Reason::from_number(number.parse().ok()?)
            }
            _ => None,
        }
    }

    /// The errno that came with the reason, if any.
    pub fn errno(&self) -> Option<i32> {
        match &self.bound {
            Address::Ip(bound) if self.reason().is_some() && bound.port() != 0 => Some(i32::from(bound.port())),
            Address::Domain(_, errno) if self.reason().is_some() && *errno != 0 => Some(i32::from(*errno)),
            _ => None,
        }
    }
}

/// Writes the reply of success: `bound` is the local address of the outgoing socket.
pub fn write_success(bound: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION, 0, 0]);
    write_address(bound, out);
}

/// Writes the reply of failure: the SOCKS code of the reason, its number and its errno.
pub fn write_failure(fault: &Fault, out: &mut Vec<u8>) {
    let errno = fault.errno.and_then(|e| u16::try_from(e).ok()).unwrap_or(0);
    let bound = SocketAddr::from((Ipv4Addr::new(0, 0, 0, fault.reason.number()), errno));
    out.extend_from_slice(&[VERSION, fault.reason.socks_reply(), 0]);
    write_address(bound, out);
}

/// Writes the reply of failure with text where a domain name could stand: number, token and detail of
/// the reason, in printable ASCII.
pub fn write_failure_text(fault: &Fault, out: &mut Vec<u8>) {
    /// What every client that was tried can take.
    const MAX_TEXT_BYTES: usize = 200;
    let errno = fault.errno.and_then(|e| u16::try_from(e).ok()).unwrap_or(0);
    let text = format!("n={} r={} d={}", fault.reason.number(), fault.reason, fault.detail);
    let text: Vec<u8> = text.bytes().filter(|b| matches!(b, 0x20..=0x7e)).take(MAX_TEXT_BYTES).collect();
    out.extend_from_slice(&[VERSION, fault.reason.socks_reply(), 0, 3, text.len() as u8]);
    out.extend_from_slice(&text);
    out.extend_from_slice(&errno.to_be_bytes());
}

/// The two commands that Egret speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Dial the destination.
    Connect = 1,
    /// In KumoMTA's dialect: choose the source of the CONNECT that follows.
    Bind = 2,
}

/// Writes a request.
pub fn write_request(command: Command, to: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION, command as u8, 0]);
    write_address(to, out);
}

fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(1);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// Scans a reply, whatever its code: servers send codes that RFC 1928 does not know.
pub fn scan_reply(bytes: &[u8]) -> Result<Scan<Reply>, Bad> {
    match bytes.first() {
        None => return Ok(Scan::More),
        Some(&VERSION) => {}
        Some(&other) => return Err(Bad::Version(other)),
    }
    if bytes.len() < 5 {
        return Ok(Scan::More);
    }
    let code = bytes[1];
    Ok(match scan_address(&bytes[3..])? {
        Scan::Got(bound, used) => Scan::Got(Reply { code, bound }, used + 3),
        Scan::More => Scan::More,
    })
}

fn scan_address(bytes: &[u8]) -> Result<Scan<Address>, Bad> {
    let length = match bytes {
        [1, ..] => 4,
        [4, ..] => 16,
        [3, length, ..] => usize::from(*length) + 1,
        [] | [3] => return Ok(Scan::More),
        [other, ..] => return Err(Bad::AddressType(*other)),
    };
    let (Some(host), Some(port)) = (bytes.get(1..=length), bytes.get(length + 1..length + 3)) else {
        return Ok(Scan::More);
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let address = match bytes[0] {
        1 => Address::Ip((Ipv4Addr::from(<[u8; 4]>::try_from(host).unwrap_or_default()), port).into()),
        4 => Address::Ip((Ipv6Addr::from(<[u8; 16]>::try_from(host).unwrap_or_default()), port).into()),
        _ => Address::Domain(host[1..].to_vec(), port),
    };
    Ok(Scan::Got(address, length + 3))
}

/// Runs every scanner over arbitrary bytes: the entry of the fuzz target.
pub fn fuzz_reply(bytes: &[u8]) {
    if let Ok(Scan::Got(reply, used)) = scan_reply(bytes) {
        assert!(used <= bytes.len() && used <= MAX_MESSAGE_BYTES);
        let _ = (reply.reason(), reply.errno());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn failures_carry_reason_and_errno_in_ten_bytes() {
        let mut out = Vec::new();
        write_failure(&Fault::new(Reason::SourcePortsExhausted, "x").with_errno(Some(99)), &mut out);
        assert_eq!(out, [5, 1, 0, 1, 0, 0, 0, 13, 0, 99]);
        let Ok(Scan::Got(reply, 10)) = scan_reply(&out) else { panic!("not a reply: {out:?}") };
        assert_eq!((reply.reason(), reply.errno()), (Some(Reason::SourcePortsExhausted), Some(99)));
    }

    #[test]
    fn failures_with_text_carry_the_same() {
        let mut out = Vec::new();
        let detail = "192.0.2.1\r\nß".repeat(100);
        write_failure_text(&Fault::new(Reason::SourcePortsExhausted, detail).with_errno(Some(99)), &mut out);
        let Ok(Scan::Got(reply, used)) = scan_reply(&out) else { panic!("not a reply: {out:?}") };
        assert_eq!((reply.code, reply.reason(), reply.errno()), (1, Some(Reason::SourcePortsExhausted), Some(99)));
        assert!(
            used == out.len() && used <= MAX_MESSAGE_BYTES && out[5..used - 2].iter().all(|b| (0x20..0x7f).contains(b))
        );
    }

    #[test]
    fn odd_replies_are_data_not_panics() {
        for code in 0..=255u8 {
            let Ok(Scan::Got(reply, _)) = scan_reply(&[5, code, 0, 1, 9, 9, 9, 9, 0, 1]) else { panic!("code {code}") };
            assert_eq!((reply.code, reply.reason()), (code, None));
        }
        assert_eq!(scan_reply(&[4, 0, 0, 1, 0]), Err(Bad::Version(4)));
        assert_eq!(scan_reply(&[5, 0, 0, 2, 0]), Err(Bad::AddressType(2)));
    }

    proptest! {
        #[test]
        fn requests_and_replies_parse_the_same_however_they_are_cut(ip: IpAddr, port: u16, tail: Vec<u8>) {
            let mut out = Vec::new();
            write_success((ip, port).into(), &mut out);
            let whole = out.len();
            out.extend_from_slice(&tail);
            for cut in 0..whole {
                prop_assert_eq!(scan_reply(&out[..cut]), Ok(Scan::More));
            }
            let want = Reply { code: 0, bound: Address::Ip((ip, port).into()) };
            prop_assert_eq!(scan_reply(&out), Ok(Scan::Got(want, whole)));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            fuzz_reply(&bytes);
        }
    }
}
