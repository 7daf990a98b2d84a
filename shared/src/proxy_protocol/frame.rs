//! PROXY protocol headers on a slice, reading around the `ppp` crate, writing by hand.
//! Pure. Floor 1.
//! Always: no more than [`V1_MAX_BYTES`] or [`V2_MAX_BYTES`] are ever asked for; a header is the same
//! however its bytes are split; what follows it is not looked at. What `ppp` leaves to its user is
//! done here: caps, the checksum, strict separators in version 1, commands without addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ppp::{v1, v2};

/// The longest version 1 line, CR LF included (section 2.1).
pub const V1_MAX_BYTES: usize = 107;
/// The longest version 2 header taken, TLVs included; the format itself would allow 65,551.
pub const V2_MAX_BYTES: usize = 1024;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_FIXED_BYTES: usize = 16;
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const V2_TCP4: u8 = 0x11;
const V2_TCP6: u8 = 0x21;
const TLV_HEADER_BYTES: usize = 3;
const TLV_CRC32C: u8 = 0x03;

/// What a header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Dial `destination` from `source`. The source's port is what the client wrote, often 0.
    Forward {
        /// The address to dial from.
        source: SocketAddr,
        /// The address and port to dial.
        destination: SocketAddr,
    },
    /// LOCAL, UNKNOWN or an unspecified family: a health probe that wants nothing forwarded.
    Probe,
}

/// What a scan of bytes found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// A whole header, and how many bytes it took. What follows is payload.
    Got(Header, usize),
    /// Bytes are missing; nothing is wrong so far.
    More,
}

/// Bytes that are no PROXY header, or not one that can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The first bytes belong to neither version.
    #[error("the first bytes are no PROXY protocol header")]
    Prefix,
    /// A version 1 line without its end in the first 107 bytes.
    #[error("version 1 line has no CR LF within {V1_MAX_BYTES} bytes")]
    LineTooLong,
    /// A version 1 line that does not follow section 2.1.
    #[error("version 1 line is malformed: {0}")]
    Line(String),
    /// A version 2 header above the cap.
    #[error("version 2 header takes {0} bytes, above the limit of {V2_MAX_BYTES}")]
    HeaderTooLong(usize),
    /// A version 2 header that does not follow section 2.2.
    #[error("version 2 header is malformed: {0}")]
    Binary(String),
    /// A family or transport that cannot be dialed: UNIX sockets, datagrams.
    #[error("version 2 family and transport 0x{0:02x} cannot be dialed; only TCP over IPv4 (0x11) or IPv6 (0x21)")]
    Transport(u8),
    /// The CRC32C TLV does not agree with the header.
    #[error("version 2 checksum is wrong: header says 0x{told:08x}, its bytes give 0x{counted:08x}")]
    Checksum {
        /// The value in the header.
        told: u32,
        /// The value of the header's bytes.
        counted: u32,
    },
}

/// Scans a header of either version at the start of `bytes`.
pub fn scan(bytes: &[u8]) -> Result<Scan, Bad> {
    match bytes.first() {
        None => Ok(Scan::More),
        Some(b'P') => scan_v1(bytes),
        Some(b'\r') => scan_v2(bytes),
        Some(_) => Err(Bad::Prefix),
    }
}

fn scan_v1(bytes: &[u8]) -> Result<Scan, Bad> {
    let shared = bytes.len().min(V1_PREFIX.len());
    if bytes[..shared] != V1_PREFIX[..shared] {
        return Err(Bad::Prefix);
    }
    let window = &bytes[..bytes.len().min(V1_MAX_BYTES)];
    // The first CR or LF must be the CR of the CR LF: `ppp` would take a CR between words.
    let Some(end) = window.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
        return if bytes.len() >= V1_MAX_BYTES { Err(Bad::LineTooLong) } else { Ok(Scan::More) };
    };
    match (window[end], window.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if bytes.len() < V1_MAX_BYTES => return Ok(Scan::More),
        (b'\r', None) => return Err(Bad::LineTooLong),
        _ => return Err(Bad::Line("it does not end with CR LF".to_owned())),
    }
    let used = end + 2;
    Ok(Scan::Got(parse_v1(&window[..used])?, used))
}

fn parse_v1(line: &[u8]) -> Result<Header, Bad> {
    let words = &line[V1_PREFIX.len()..];
    if words.starts_with(b"UNKNOWN\r") || words.starts_with(b"UNKNOWN ") {
        return Ok(Header::Probe);
    }
    // `u16::from_str` takes a sign; section 2.1 does not.
    if words.contains(&b'+') {
        return Err(Bad::Line("a port has a sign".to_owned()));
    }
    let header = v1::Header::try_from(line).map_err(|e| Bad::Line(e.to_string()))?;
    match header.addresses {
        v1::Addresses::Tcp4(a) => Ok(Header::Forward {
            source: (a.source_address, a.source_port).into(),
            destination: (a.destination_address, a.destination_port).into(),
        }),
        v1::Addresses::Tcp6(a) => Ok(Header::Forward {
            source: (a.source_address, a.source_port).into(),
            destination: (a.destination_address, a.destination_port).into(),
        }),
        v1::Addresses::Unknown => Ok(Header::Probe),
    }
}

fn scan_v2(bytes: &[u8]) -> Result<Scan, Bad> {
    let prefix = v2::PROTOCOL_PREFIX;
    let shared = bytes.len().min(prefix.len());
    if bytes[..shared] != prefix[..shared] {
        return Err(Bad::Prefix);
    }
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_BYTES>() else { return Ok(Scan::More) };
    let used = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if used > V2_MAX_BYTES {
        return Err(Bad::HeaderTooLong(used));
    }
    let Some(header) = bytes.get(..used) else { return Ok(Scan::More) };
    // A LOCAL header's addresses must be skipped unread (section 2.2).
    if fixed[12] == V2_LOCAL {
        return Ok(Scan::Got(Header::Probe, used));
    }
    Ok(Scan::Got(parse_v2(header)?, used))
}

fn parse_v2(bytes: &[u8]) -> Result<Header, Bad> {
    let header = v2::Header::try_from(bytes).map_err(|e| Bad::Binary(e.to_string()))?;
    let forward = match header.addresses {
        v2::Addresses::Unspecified => return Ok(Header::Probe),
        v2::Addresses::IPv4(a) => Header::Forward {
            source: (a.source_address, a.source_port).into(),
            destination: (a.destination_address, a.destination_port).into(),
        },
        v2::Addresses::IPv6(a) => Header::Forward {
            source: (a.source_address, a.source_port).into(),
            destination: (a.destination_address, a.destination_port).into(),
        },
        v2::Addresses::Unix(_) => return Err(Bad::Transport(bytes[13])),
    };
    if header.protocol != v2::Protocol::Stream {
        return Err(Bad::Transport(bytes[13]));
    }
    check_tlvs(bytes, header.tlv_bytes().len())?;
    Ok(forward)
}

/// Walks the TLVs to the header's end and verifies the checksum if one is there (section 2.2.3).
fn check_tlvs(header: &[u8], tlv_bytes: usize) -> Result<(), Bad> {
    let mut at = header.len() - tlv_bytes;
    while at < header.len() {
        let cut = || Bad::Binary(format!("a TLV is cut short at byte {at}"));
        let &[kind, high, low] = header[at..].first_chunk::<TLV_HEADER_BYTES>().ok_or_else(cut)?;
        let start = at + TLV_HEADER_BYTES;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(start..start + length).ok_or_else(cut)?;
        if kind == TLV_CRC32C {
            let told = <[u8; 4]>::try_from(value)
                .map_err(|_| Bad::Binary(format!("its checksum has {length} bytes instead of 4")))?;
            check_crc(header, start, u32::from_be_bytes(told))?;
        }
        at = start + length;
    }
    Ok(())
}

fn check_crc(header: &[u8], value_at: usize, told: u32) -> Result<(), Bad> {
    let counted = crc32c::crc32c(&header[..value_at]);
    let counted = crc32c::crc32c_append(counted, &[0; 4]);
    let counted = crc32c::crc32c_append(counted, &header[value_at + 4..]);
    if counted == told { Ok(()) } else { Err(Bad::Checksum { told, counted }) }
}

/// Writes a version 2 header that asks to dial `destination` from `source`. Addresses of two families
/// are both written as IPv6, the IPv4 one mapped: no proxy can serve that, so check before.
pub fn write_v2(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(v2::PROTOCOL_PREFIX);
    out.push(V2_PROXY);
    if let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) {
        out.extend_from_slice(&[V2_TCP4, 0, 12]);
        out.extend_from_slice(&source.ip().octets());
        out.extend_from_slice(&destination.ip().octets());
    } else {
        out.extend_from_slice(&[V2_TCP6, 0, 36]);
        out.extend_from_slice(&v6_octets(source));
        out.extend_from_slice(&v6_octets(destination));
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Writes a version 1 line that asks to dial `destination` from `source`. Addresses of two families are both written
/// as IPv6, as [`write_v2`] does.
pub fn write_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (family, from, to) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ("TCP4", from.to_string(), to.to_string()),
        _ => ("TCP6", v6(source).to_string(), v6(destination).to_string()),
    };
    let (from_port, to_port) = (source.port(), destination.port());
    out.extend_from_slice(format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").as_bytes());
}

fn v6_octets(address: SocketAddr) -> [u8; 16] {
    v6(address).octets()
}

fn v6(address: SocketAddr) -> Ipv6Addr {
    match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Scans arbitrary bytes: the entry of the fuzz target.
pub fn fuzz_header(bytes: &[u8]) {
    if let Ok(Scan::Got(_, used)) = scan(bytes) {
        assert!(used <= bytes.len() && used <= V2_MAX_BYTES);
        assert_eq!(scan(&bytes[..used]), scan(bytes), "payload changed the header");
    }
}

#[cfg(test)]
mod tests;
