//! The client's side of the SOCKS5 handshake as a machine: greeting, user name and password, BIND in
//! KumoMTA's dialect, CONNECT (RFC 1928, RFC 1929).
//! Pure: no socket, no clock. Floor 1.
//! Always: one message is on its way at a time, so that a refused BIND is never lost behind a
//! reset; a proxy that reports another address than the one asked for is not used.

use std::net::{IpAddr, SocketAddr};

use super::frame::{AUTH_VERSION, Address, Command, Reply, Scan, VERSION, scan_reply, write_request};
use crate::fault::{Fault, Reason};

const NO_AUTH: u8 = 0;
const USER_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
/// The longest user name and password (RFC 1929).
const MAX_CREDENTIAL_BYTES: usize = 255;

/// What is asked of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// User name and password, if the proxy wants them.
    pub credentials: Option<(&'a str, &'a str)>,
    /// The source address, to be chosen by BIND; `None` is plain CONNECT.
    pub source: Option<IpAddr>,
    /// Where to.
    pub destination: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Method,
    Auth,
    Bind,
    Connect,
}

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes are missing.
    More,
    /// Connected. What follows in the input came from the destination.
    Done {
        /// The address that the destination sees, if the proxy told it.
        bound: Option<SocketAddr>,
    },
}

/// One handshake.
#[derive(Debug)]
pub struct Client<'a> {
    ask: Ask<'a>,
    awaits: Awaits,
}

impl<'a> Client<'a> {
    /// Starts a handshake: the greeting is appended to `send`.
    pub fn new(ask: Ask<'a>, send: &mut Vec<u8>) -> Self {
        match ask.credentials {
            Some(_) => send.extend_from_slice(&[VERSION, 2, NO_AUTH, USER_PASSWORD]),
            None => send.extend_from_slice(&[VERSION, 1, NO_AUTH]),
        }
        Self { ask, awaits: Awaits::Method }
    }

    /// Reads from `input`, appends to `send`. Returns the bytes that it took, and how far it is.
    ///
    /// # Errors
    /// The fault, with its party: the proxy's own reason if it gave one.
    pub fn step(&mut self, input: &[u8], send: &mut Vec<u8>) -> Result<(usize, Progress), Fault> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.awaits {
                Awaits::Method | Awaits::Auth => {
                    let Some(&[version, answer]) = rest.first_chunk::<2>() else { return Ok((used, Progress::More)) };
                    used += 2;
                    if self.awaits == Awaits::Method {
                        self.method(version, answer, send)?;
                    } else {
                        self.auth(version, answer, send)?;
                    }
                }
                Awaits::Bind | Awaits::Connect => {
                    let (reply, taken) = match scan_reply(rest) {
                        Ok(Scan::Got(reply, taken)) => (reply, taken),
                        Ok(Scan::More) => return Ok((used, Progress::More)),
                        Err(bad) => return Err(self.dialect(&bad.to_string())),
                    };
                    used += taken;
                    if self.awaits == Awaits::Bind {
                        self.bind(&reply, send)?;
                    } else {
                        let bound = self.connect(&reply)?;
                        return Ok((used, Progress::Done { bound }));
                    }
                }
            }
        }
    }

    /// What it means that the proxy closed the connection now.
    pub fn closed(&self) -> Fault {
        Fault::new(Reason::ProxyUnspecified, format!("proxy closed the connection at {}", self.stage()))
    }

    /// Whether all but the destination is agreed on: the method, the user, and the source where one is asked for.
    pub fn is_let_in(&self) -> bool {
        self.awaits == Awaits::Connect
    }

    /// What is awaited, for people.
    pub fn stage(&self) -> &'static str {
        match self.awaits {
            Awaits::Method => "the greeting",
            Awaits::Auth => "the user name and password",
            Awaits::Bind => "BIND",
            Awaits::Connect => "CONNECT",
        }
    }

    fn method(&mut self, version: u8, method: u8, send: &mut Vec<u8>) -> Result<(), Fault> {
        if version != VERSION {
            return Err(self.dialect(&format!("version byte is 0x{version:02x}, not that of SOCKS5")));
        }
        match (method, self.ask.credentials) {
            (NO_AUTH, _) => {
                self.request(send);
                Ok(())
            }
            (USER_PASSWORD, Some((user, password))) => {
                let (user, password) = (credential(user, "user name")?, credential(password, "password")?);
                send.push(AUTH_VERSION);
                for field in [user, password] {
                    send.push(field.len() as u8);
                    send.extend_from_slice(field);
                }
                self.awaits = Awaits::Auth;
                Ok(())
            }
            (NO_METHOD, _) => {
                Err(Fault::new(Reason::NoAcceptableMethod, "proxy takes none of the offered authentication methods"))
            }
            (other, _) => Err(self.dialect(&format!("it chose method 0x{other:02x}, which was not offered"))),
        }
    }

    fn auth(&mut self, version: u8, status: u8, send: &mut Vec<u8>) -> Result<(), Fault> {
        if status != 0 {
            return Err(Fault::new(Reason::AuthFailed, "proxy refused the user name or password"));
        }
        if version != AUTH_VERSION {
            return Err(self.dialect(&format!("version byte is 0x{version:02x} where RFC 1929 has 0x01")));
        }
        self.request(send);
        Ok(())
    }

    fn request(&mut self, send: &mut Vec<u8>) {
        match self.ask.source {
            Some(source) => {
                write_request(Command::Bind, SocketAddr::new(source, 0), send);
                self.awaits = Awaits::Bind;
            }
            None => {
                write_request(Command::Connect, self.ask.destination, send);
                self.awaits = Awaits::Connect;
            }
        }
    }

    fn bind(&mut self, reply: &Reply, send: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(source) = self.ask.source else { return Ok(()) };
        if reply.code != 0 {
            return Err(refusal(reply, bind_reason(reply.code), &format!("BIND to {source}")));
        }
        let bound = ip(&reply.bound);
        if !bound.is_some_and(|bound| bound == source || bound.is_unspecified()) {
            return Err(self.other_address(&reply.bound));
        }
        write_request(Command::Connect, self.ask.destination, send);
        self.awaits = Awaits::Connect;
        Ok(())
    }

    fn connect(&self, reply: &Reply) -> Result<Option<SocketAddr>, Fault> {
        if reply.code != 0 {
            let from = self.ask.source.map(|source| format!("{source} to ")).unwrap_or_default();
            let what = format!("{from}{}", self.ask.destination);
            return Err(refusal(reply, connect_reason(reply.code), &what));
        }
        if let Some(source) = self.ask.source
            && ip(&reply.bound) != Some(source)
        {
            return Err(self.other_address(&reply.bound));
        }
        match reply.bound {
            Address::Ip(bound) if !bound.ip().is_unspecified() => Ok(Some(bound)),
            _ => Ok(None),
        }
    }

    fn other_address(&self, bound: &Address) -> Fault {
        let told = ip(bound).map_or_else(|| "a domain name".to_owned(), |ip| ip.to_string());
        self.dialect(&format!("it reports {told} as the source instead of the one asked for"))
    }

    fn dialect(&self, what: &str) -> Fault {
        Fault::new(Reason::ProxyDialect, format!("proxy does not speak this dialect, at {}: {what}", self.stage()))
    }
}

fn credential<'t>(text: &'t str, what: &str) -> Result<&'t [u8], Fault> {
    match text.len() {
        1..=MAX_CREDENTIAL_BYTES => Ok(text.as_bytes()),
        length => Err(Fault::new(Reason::AuthFailed, format!("{what} has {length} bytes; SOCKS5 takes 1 to 255"))),
    }
}

fn ip(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Ip(address) => Some(address.ip().to_canonical()),
        Address::Domain(..) => None,
    }
}

fn refusal(reply: &Reply, otherwise: Reason, what: &str) -> Fault {
    let reason = reply.reason().unwrap_or(otherwise);
    Fault::new(reason, format!("{what}: proxy answered code {}", reply.code)).with_errno(reply.errno())
}

/// What a refused BIND means where the proxy gives no reason: KumoMTA's says 1 for an address that it
/// does not have; servers without the dialect say 7.
fn bind_reason(code: u8) -> Reason {
    match code {
        2 => Reason::SourceNotAllowed,
        7 => Reason::CommandUnsupported,
        8 => Reason::AddressUnsupported,
        1..=6 => Reason::SourceNotPlumbed,
        _ => Reason::ProxyDialect,
    }
}

/// What a refused CONNECT means where the proxy gives no reason (RFC 1928 section 6).
fn connect_reason(code: u8) -> Reason {
    match code {
        1 => Reason::ProxyUnspecified,
        2 => Reason::DestinationProhibited,
        3 => Reason::DestinationUnroutable,
        4 => Reason::HostUnreachable,
        5 => Reason::ConnectionRefused,
        6 => Reason::ConnectionTimeout,
        7 => Reason::CommandUnsupported,
        8 => Reason::AddressUnsupported,
        _ => Reason::ProxyDialect,
    }
}

/// Plays a handshake against arbitrary bytes of the proxy: the entry of the fuzz target.
pub fn fuzz_client(bytes: &[u8]) {
    let ask = Ask {
        credentials: Some(("user", "password")),
        source: Some([203, 0, 113, 5].into()),
        destination: ([198, 51, 100, 7], 25).into(),
    };
    let mut send = Vec::new();
    if let Ok((used, _)) = Client::new(ask, &mut send).step(bytes, &mut send) {
        assert!(used <= bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{write_failure, write_success};
    use super::*;

    const SOURCE: [u8; 4] = [203, 0, 113, 5];

    fn ask<'a>(dialect_bind: bool, credentials: Option<(&'a str, &'a str)>) -> Ask<'a> {
        Ask { credentials, source: dialect_bind.then(|| SOURCE.into()), destination: ([198, 51, 100, 7], 25).into() }
    }

    /// The handshake against `answers`, given in pieces of `piece` bytes: what was sent, and the end.
    fn play(ask: Ask<'_>, answers: &[u8], piece: usize) -> (Vec<u8>, Result<(usize, Progress), Fault>) {
        let mut send = Vec::new();
        let mut client = Client::new(ask, &mut send);
        let (mut at, mut have) = (0, 0);
        loop {
            match client.step(&answers[at..have], &mut send) {
                Ok((used, Progress::More)) if have < answers.len() => {
                    at += used;
                    have = (have + piece).min(answers.len());
                }
                Ok((used, progress)) => return (send, Ok((at + used, progress))),
                Err(fault) => return (send, Err(fault)),
            }
        }
    }

    fn success(address: [u8; 4], port: u16) -> Vec<u8> {
        let mut out = Vec::new();
        write_success((address, port).into(), &mut out);
        out
    }

    #[test]
    fn the_bytes_are_those_of_kumomta() {
        let answers = [&[5, 2, 1, 0][..], &success(SOURCE, 0), &success(SOURCE, 4000)].concat();
        let (sent, end) = play(ask(true, Some(("me", "pw"))), &answers, 1);
        let want = [
            &[5, 2, 0, 2][..],
            &[1, 2, b'm', b'e', 2, b'p', b'w'],
            &[5, 2, 0, 1, 203, 0, 113, 5, 0, 0],
            &[5, 1, 0, 1, 198, 51, 100, 7, 0, 25],
        ];
        assert_eq!(sent, want.concat());
        assert_eq!(end, Ok((24, Progress::Done { bound: Some((SOURCE, 4000).into()) })));
        let (sent, _) = play(ask(false, None), &[5, 0], 2);
        assert_eq!(sent, [&[5, 1, 0][..], &[5, 1, 0, 1, 198, 51, 100, 7, 0, 25]].concat());
    }

    #[test]
    fn each_refusal_names_its_party() {
        let mut reasoned = vec![5, 0];
        reasoned.extend_from_slice(&success(SOURCE, 0));
        write_failure(&Fault::new(Reason::ConnectionRefused, "").with_errno(Some(111)), &mut reasoned);
        let bind = |code: u8| [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0].to_vec();
        let connect = |code| [&[5, 0][..], &success(SOURCE, 0), &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
        for (answers, want) in [
            (vec![5, 0xff], Reason::NoAcceptableMethod),
            (vec![5, 7], Reason::ProxyDialect),
            (vec![4, 0], Reason::ProxyDialect),
            (b"HTTP".to_vec(), Reason::ProxyDialect),
            (vec![5, 2, 1, 1], Reason::AuthFailed),
            (bind(1), Reason::SourceNotPlumbed),
            (bind(2), Reason::SourceNotAllowed),
            (bind(7), Reason::CommandUnsupported),
            (connect(1), Reason::ProxyUnspecified),
            (connect(5), Reason::ConnectionRefused),
            (connect(99), Reason::ProxyDialect),
            ([&[5, 0][..], &success([9, 9, 9, 9], 0)].concat(), Reason::ProxyDialect),
            ([&[5, 0][..], &success(SOURCE, 0), &success([9, 9, 9, 9], 0)].concat(), Reason::ProxyDialect),
            ([&[5, 0][..], &success(SOURCE, 0), &success([0, 0, 0, 0], 0)].concat(), Reason::ProxyDialect),
            (reasoned.clone(), Reason::ConnectionRefused),
        ] {
            let (_, end) = play(ask(true, Some(("u", "p"))), &answers, 3);
            assert_eq!(end.map_err(|fault| fault.reason), Err(want), "{answers:?}");
        }
        let (_, end) = play(ask(true, None), &reasoned, 30);
        assert_eq!(end.expect_err("refused").errno, Some(111));
    }

    proptest! {
        #[test]
        fn what_the_destination_says_is_left_in_the_input(banner: Vec<u8>, piece in 1usize..40) {
            let answers = [&[5, 0][..], &success(SOURCE, 0), &success(SOURCE, 9), &banner].concat();
            let (_, end) = play(ask(true, None), &answers, piece);
            prop_assert_eq!(end, Ok((22, Progress::Done { bound: Some((SOURCE, 9).into()) })));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            fuzz_client(&bytes);
        }
    }
}
