//! SOCKS5 (RFC 1928, RFC 1929) as a server, with KumoMTA's dialect: BIND names the source of the CONNECT
//! that follows on the same connection.
//! Pure. Floor 1.
//! Always: each message of the client gets exactly one reply, written whole; a refusal says why; bytes
//! that follow a message are left for the next step.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use egret_shared::fault::{Fault, Reason};
use egret_shared::socks5::frame::{AUTH_VERSION, VERSION, write_failure, write_failure_text, write_success};

const NO_AUTH: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xFF;

/// The method that clients must offer (RFC 1928 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// No authentication.
    None,
    /// User name and password (RFC 1929).
    Password,
}

/// What the client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing yet: read more.
    More,
    /// To be let in: answer by [`Socks5::logged_in`].
    Login {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// To use this source: answer by [`Socks5::bound`] or [`Socks5::refuse`].
    Bind(IpAddr),
    /// To be connected: answer by [`Socks5::connected`] or [`Socks5::refuse`].
    Connect(SocketAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Credentials,
    Request,
}

/// The machine.
#[derive(Debug)]
pub struct Socks5 {
    methods: Methods,
    failure_text: bool,
    /// The last request named an IPv4 address in an IPv6 dress; clients may read a reply of its length.
    is_mapped: bool,
    state: State,
}

/// A whole message, and what is to be done; or how many more bytes are needed at least.
type Step = Result<Option<(usize, Ask)>, Fault>;

impl Socks5 {
    /// A session that has not begun.
    pub fn new(methods: Methods, failure_text: bool) -> Self {
        Self { methods, failure_text, is_mapped: false, state: State::Greeting }
    }

    /// Reads the next message from `input`; tells how many bytes it took. Replies that need no decision
    /// are appended to `out`.
    ///
    /// # Errors
    /// The client cannot be served; the reply that says so is in `out`, and the session is over.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Ask), Fault> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let step = match self.state {
                State::Greeting => self.greeting(rest, out),
                State::Credentials => credentials(rest, out),
                State::Request => request(rest, &mut self.is_mapped, out),
            };
            match step? {
                None => return Ok((used, Ask::More)),
                Some((taken, Ask::More)) => used += taken,
                Some((taken, ask)) => return Ok((used + taken, ask)),
            }
        }
    }

    fn greeting(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        if let Some(&version) = input.first().filter(|version| **version != VERSION) {
            out.extend_from_slice(&[VERSION, NONE_ACCEPTABLE]);
            let detail = format!("the first byte is 0x{version:02x}, not SOCKS version 5");
            return Err(Fault::new(Reason::ProtocolError, detail));
        }
        let Some(count) = input.get(1).map(|count| usize::from(*count)) else { return Ok(None) };
        let Some(methods) = input.get(2..2 + count) else { return Ok(None) };
        let (method, next) = match self.methods {
            Methods::None => (NO_AUTH, State::Request),
            Methods::Password => (PASSWORD, State::Credentials),
        };
        if !methods.contains(&method) {
            out.extend_from_slice(&[VERSION, NONE_ACCEPTABLE]);
            let detail = format!("the client offers the methods {methods:?}, this listener wants {method}");
            return Err(Fault::new(Reason::NoAcceptableMethod, detail));
        }
        out.extend_from_slice(&[VERSION, method]);
        self.state = next;
        Ok(Some((2 + count, Ask::More)))
    }

    /// Answers [`Ask::Login`].
    pub fn logged_in(&mut self, is_good: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&[AUTH_VERSION, u8::from(!is_good)]);
        self.state = State::Request;
    }

    /// Answers [`Ask::Bind`]: the source is bound, its port is chosen at CONNECT.
    pub fn bound(&self, source: IpAddr, out: &mut Vec<u8>) {
        self.succeed(SocketAddr::new(source, 0), out);
    }

    /// Answers [`Ask::Connect`]; what follows are the client's and the destination's bytes.
    pub fn connected(self, local: SocketAddr, out: &mut Vec<u8>) {
        self.succeed(local, out);
    }

    fn succeed(&self, bound: SocketAddr, out: &mut Vec<u8>) {
        let ip = match bound.ip() {
            IpAddr::V4(ip) if self.is_mapped => ip.to_ipv6_mapped().into(),
            ip => ip,
        };
        write_success(SocketAddr::new(ip, bound.port()), out);
    }

    /// True once the client may ask for something, and so can be answered.
    pub fn is_asked(&self) -> bool {
        self.state == State::Request
    }

    /// Refuses what was asked for.
    pub fn refuse(&self, fault: &Fault, out: &mut Vec<u8>) {
        if self.failure_text { write_failure_text(fault, out) } else { write_failure(fault, out) }
    }
}

/// Refuses whatever the client may offer in its greeting.
pub fn refuse_all(out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION, NONE_ACCEPTABLE]);
}

fn credentials(input: &[u8], out: &mut Vec<u8>) -> Step {
    if input.first().is_some_and(|version| *version != AUTH_VERSION) {
        out.extend_from_slice(&[AUTH_VERSION, 1]);
        return Err(Fault::new(Reason::ProtocolError, "user name and password are not sent as RFC 1929 says"));
    }
    let Some(name_len) = input.get(1).map(|n| usize::from(*n)) else { return Ok(None) };
    let (Some(name), Some(password_len)) = (input.get(2..2 + name_len), input.get(2 + name_len)) else {
        return Ok(None);
    };
    let end = 3 + name_len + usize::from(*password_len);
    let Some(password) = input.get(3 + name_len..end) else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some((end, Ask::Login { username: text(name), password: text(password) })))
}

fn request(input: &[u8], is_mapped: &mut bool, out: &mut Vec<u8>) -> Step {
    let refuse = |reason, detail: String, out: &mut Vec<u8>| {
        let fault = Fault::new(reason, detail);
        write_failure(&fault, out);
        Err(fault)
    };
    if let Some(&version) = input.first().filter(|version| **version != VERSION) {
        return refuse(Reason::ProtocolError, format!("a request begins with 0x{version:02x}"), out);
    }
    let Some(&[command, _, kind]) = input.get(1..4) else { return Ok(None) };
    let (address, end) = match kind {
        1 => match input.get(4..8).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) {
            Some(octets) => (IpAddr::from(Ipv4Addr::from(octets)), 10),
            None => return Ok(None),
        },
        4 => match input.get(4..20).and_then(|octets| <[u8; 16]>::try_from(octets).ok()) {
            Some(octets) => (IpAddr::from(Ipv6Addr::from(octets)), 22),
            None => return Ok(None),
        },
        3 => {
            return refuse(
                Reason::AddressUnsupported,
                "a domain is asked for; only addresses are dialed".to_owned(),
                out,
            );
        }
        kind => return refuse(Reason::AddressUnsupported, format!("address type {kind} is not known"), out),
    };
    let Some(port) = input.get(end - 2..end) else { return Ok(None) };
    let port = u16::from_be_bytes([port[0], port[1]]);
    // An IPv4 address in an IPv6 dress is dialed, judged and told as what it is.
    *is_mapped = kind == 4 && address.to_canonical().is_ipv4();
    let address = address.to_canonical();
    match command {
        1 => Ok(Some((end, Ask::Connect(SocketAddr::new(address, port))))),
        // A port means that RFC 1928's own BIND is meant: to listen for one peer. It must not be taken
        // for a choice of the source.
        2 if port != 0 => refuse(
            Reason::CommandUnsupported,
            format!("BIND with port {port} is not offered; BIND with port 0 chooses the source"),
            out,
        ),
        2 => Ok(Some((end, Ask::Bind(address)))),
        other => refuse(Reason::CommandUnsupported, format!("command {other} is not offered"), out),
    }
}

/// For fuzzing: no input may do more than be refused.
pub fn fuzz_socks5(bytes: &[u8]) {
    for methods in [Methods::None, Methods::Password] {
        let (mut machine, mut out, mut at) = (Socks5::new(methods, true), Vec::new(), 0);
        while let Ok((used, ask)) = machine.step(&bytes[at..], &mut out) {
            at += used;
            match ask {
                Ask::More => break,
                Ask::Login { .. } => machine.logged_in(true, &mut out),
                Ask::Bind(source) => machine.bound(source, &mut out),
                Ask::Connect(_) => return machine.connected(SocketAddr::from(([0, 0, 0, 0], 0)), &mut out),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BIND: &[u8] = &[5, 2, 0, 1, 192, 0, 2, 7, 0, 0];
    const CONNECT: &[u8] = &[5, 1, 0, 1, 198, 51, 100, 9, 0, 25];

    /// Feeds `bytes` in pieces; returns what was asked for, and all replies.
    fn feed(methods: Methods, bytes: &[u8], piece: usize) -> (Vec<Ask>, Vec<u8>, Option<Reason>) {
        let (mut out, mut input, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        let mut machine = Socks5::new(methods, false);
        for piece in bytes.chunks(piece.max(1)) {
            input.extend_from_slice(piece);
            loop {
                let (used, ask) = match machine.step(&input, &mut out) {
                    Ok(step) => step,
                    Err(fault) => return (asked, out, Some(fault.reason)),
                };
                input.drain(..used);
                match &ask {
                    Ask::More => break,
                    Ask::Login { password, .. } => machine.logged_in(password == "secret", &mut out),
                    Ask::Bind(source) => machine.bound(*source, &mut out),
                    Ask::Connect(_) => {}
                }
                asked.push(ask);
            }
        }
        (asked, out, None)
    }

    fn whole() -> (Vec<u8>, Vec<Ask>) {
        let bytes = [&[5, 2, 0, 2], BIND, CONNECT].concat();
        (bytes, vec![Ask::Bind([192, 0, 2, 7].into()), Ask::Connect(([198, 51, 100, 9], 25).into())])
    }

    #[test]
    fn bind_and_connect_are_read_however_they_are_split() {
        let (bytes, want) = whole();
        for piece in 1..=bytes.len() {
            let (asked, out, fault) = feed(Methods::None, &bytes, piece);
            assert_eq!((asked, fault), (want.clone(), None), "in pieces of {piece}");
            assert_eq!(out, [5, 0, 5, 0, 0, 1, 192, 0, 2, 7, 0, 0], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_password_is_asked_for_where_it_is_wanted() {
        let login = [&[5, 1, 2, 1, 1, b'u', 6][..], b"secret", CONNECT].concat();
        let (asked, out, _) = feed(Methods::Password, &login, 3);
        assert_eq!(asked.len(), 2);
        assert_eq!(out, [5, 2, 1, 0]);
        let (_, out, fault) = feed(Methods::Password, &[5, 1, 0], 1);
        assert_eq!((&out[..], fault), (&[5, 0xFF][..], Some(Reason::NoAcceptableMethod)));
    }

    #[test]
    fn each_refusal_has_its_code_and_reason() {
        for (request, code, reason) in [
            (&[5, 3, 0, 1, 1, 2, 3, 4, 0, 25][..], 7, Reason::CommandUnsupported),
            (&[5, 0, 0, 1, 1, 2, 3, 4, 0, 25][..], 7, Reason::CommandUnsupported),
            (&[5, 2, 0, 1, 1, 2, 3, 4, 0, 25][..], 7, Reason::CommandUnsupported),
            (&[5, 1, 0, 3, 1][..], 8, Reason::AddressUnsupported),
            (&[5, 1, 0, 9][..], 8, Reason::AddressUnsupported),
            (&[4, 1][..], 1, Reason::ProtocolError),
        ] {
            let (_, out, fault) = feed(Methods::None, &[&[5, 1, 0], request].concat(), 2);
            assert_eq!((fault, &out[2..6]), (Some(reason), &[5, code, 0, 1][..]), "{request:?}");
            assert_eq!(out[6..10], [0, 0, 0, reason.number()], "{request:?}");
        }
        let (_, out, fault) = feed(Methods::None, b"GET / HTTP/1.1\r\n", 4);
        assert_eq!((&out[..], fault), (&[5, 0xFF][..], Some(Reason::ProtocolError)));
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_dress_is_ipv4() {
        let mapped = [&[5, 1, 0, 5, 1, 0, 4][..], &[0; 10], &[0xFF, 0xFF, 10, 0, 0, 1, 0, 25]].concat();
        assert_eq!(feed(Methods::None, &mapped, 99).0, [Ask::Connect(([10, 0, 0, 1], 25).into())]);
        let bind = [&[5, 1, 0, 5, 2, 0, 4][..], &[0; 10], &[0xFF, 0xFF, 10, 0, 0, 1, 0, 0]].concat();
        let (_, out, _) = feed(Methods::None, &bind, 99);
        assert_eq!((out.len(), out[5]), (2 + 22, 4), "the reply has the family of the request");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_split_lead_to_the_same(bytes: Vec<u8>, piece in 1usize..9) {
            prop_assert_eq!(feed(Methods::None, &bytes, piece), feed(Methods::None, &bytes, bytes.len().max(1)));
            fuzz_socks5(&bytes);
        }
    }
}
