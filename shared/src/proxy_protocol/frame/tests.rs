//! Vectors of both versions, the damage that peers have met, and: any split gives the same result.

use proptest::prelude::*;

use super::*;

fn forward(source: &str, destination: &str) -> Header {
    let address = |text: &str| text.parse().expect("an address with a port");
    Header::Forward { source: address(source), destination: address(destination) }
}

fn v2(command: u8, transport: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short payload").to_be_bytes();
    [v2::PROTOCOL_PREFIX, &[command, transport], &length, payload].concat()
}

const TCP4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 9, 0, 0, 0, 25];

fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&TCP4[..], tlvs].concat())
}

#[test]
fn version_1_lines_that_are_taken() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
    assert_eq!(longest.len(), V1_MAX_BYTES);
    for (line, want) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.9 0 25\r\n", forward("192.0.2.7:0", "198.51.100.9:25")),
        ("PROXY TCP6 2001:db8::7 2001:db8::9 65535 587\r\n", forward("[2001:db8::7]:65535", "[2001:db8::9]:587")),
        ("PROXY UNKNOWN\r\n", Header::Probe),
        ("PROXY UNKNOWN ffff::1 ffff::2 1 2 and words and words\r\n", Header::Probe),
        (&longest, Header::Probe),
    ] {
        let with_payload = format!("{line}EHLO x\r\n");
        assert_eq!(scan(with_payload.as_bytes()), Ok(Scan::Got(want, line.len())), "{line:?}");
    }
}

#[test]
fn version_1_lines_that_are_refused() {
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
    for line in [
        "PROXY TCP4\r\n",
        "PROXY\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.9 0 25\n",
        "PROXY TCP4 192.0.2.7 198.51.100.9 0 25\rX",
        "PROXY TCP4 192.0.2.7\r198.51.100.9 0 25\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.9 0 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.9 0 25 \r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.9 0 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.9 0 025\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.9 0 +25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.9 0 65536\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::9 0 25\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.9 0 25\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.9 0 25\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXX TCP4 ",
        "GET / HTTP/1.1\r\n",
        "\x05\x01\x00",
        &too_long,
    ] {
        assert!(scan(line.as_bytes()).is_err(), "{line:?} gave {:?}", scan(line.as_bytes()));
    }
}

#[test]
fn version_2_headers_that_are_taken() {
    let probe_with_junk = v2(0x20, 0x11, &[1, 2, 3]);
    for (bytes, want) in [
        (v2(0x21, 0x11, &TCP4), forward("192.0.2.7:0", "198.51.100.9:25")),
        (with_tlvs(&[4, 0, 1, 42]), forward("192.0.2.7:0", "198.51.100.9:25")),
        (v2(0x20, 0x00, &[]), Header::Probe),
        (v2(0x20, 0x21, &[0; 36]), Header::Probe),
        (v2(0x21, 0x00, &[9, 9, 9]), Header::Probe),
        (probe_with_junk, Header::Probe),
    ] {
        assert_eq!(scan(&bytes), Ok(Scan::Got(want, bytes.len())), "{bytes:?}");
    }
}

#[test]
fn version_2_headers_that_are_refused() {
    let mut bad_signature = v2(0x21, 0x11, &TCP4);
    bad_signature[5] = 1;
    for bytes in [
        bad_signature,
        v2(0x11, 0x11, &TCP4),
        v2(0x31, 0x11, &TCP4),
        v2(0x22, 0x11, &TCP4),
        v2(0x21, 0x11, &TCP4[..11]),
        v2(0x21, 0x11, &[]),
        v2(0x21, 0x12, &TCP4),
        v2(0x21, 0x10, &TCP4),
        v2(0x21, 0x41, &TCP4),
        v2(0x21, 0x31, &[0; 216]),
        v2(0x21, 0x11, &[0; 1009]),
        [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat(),
        with_tlvs(&[4, 0, 2, 42]),
        with_tlvs(&[4, 0]),
        with_tlvs(&[3, 0, 3, 1, 2, 3]),
        with_tlvs(&[3, 0, 4, 1, 2, 3, 4]),
    ] {
        assert!(scan(&bytes).is_err(), "{bytes:?} gave {:?}", scan(&bytes));
    }
}

#[test]
fn a_right_checksum_is_taken_and_a_flipped_bit_is_not() {
    let mut bytes = with_tlvs(&[3, 0, 4, 0, 0, 0, 0, 5, 0, 1, 7]);
    let crc = crc32c::crc32c(&bytes).to_be_bytes();
    let at = bytes.len() - 8;
    bytes[at..at + 4].copy_from_slice(&crc);
    assert!(matches!(scan(&bytes), Ok(Scan::Got(Header::Forward { .. }, _))));
    bytes[16] ^= 1;
    assert!(matches!(scan(&bytes), Err(Bad::Checksum { .. })));
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        source: std::net::Ipv6Addr, destination: std::net::Ipv6Addr, four: bool, port: u16, tail: Vec<u8>,
    ) {
        let (source, destination): (SocketAddr, SocketAddr) = if four {
            let low = |a: std::net::Ipv6Addr| std::net::Ipv4Addr::from(u128::from(a) as u32);
            ((low(source), 0).into(), (low(destination), port).into())
        } else {
            ((source, 0).into(), (destination, port).into())
        };
        for write in [write_v1, write_v2] {
            let mut out = Vec::new();
            write(source, destination, &mut out);
            let whole = out.len();
            out.extend_from_slice(&tail);
            for cut in 0..whole {
                prop_assert_eq!(scan(&out[..cut]), Ok(Scan::More));
            }
            prop_assert_eq!(scan(&out), Ok(Scan::Got(Header::Forward { source, destination }, whole)));
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, tail: Vec<u8>) {
        fuzz_header(&bytes);
        fuzz_header(&[b"PROXY TCP4 ", &bytes[..]].concat());
        fuzz_header(&[v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0, 20], &TCP4, &tail].concat());
    }
}
