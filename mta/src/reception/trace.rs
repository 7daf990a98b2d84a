//! The trace header (RFC 5321 section 4.4) and the count of those that a message has.
//! Pure. Floor 1.
//! Always: a header that is written here is folded so that no line exceeds 78 columns unless a
//! single word does, and its words cannot hold CR, LF or NUL.

use bytes::Bytes;
use egret_shared::clock::UnixMs;
use egret_shared::text::Line;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use memchr::memchr;

use super::offer::Offered;
use crate::message::{Address, MessageId};

/// Columns of a line (RFC 5322 section 2.1.1).
const MAX_COLUMNS: usize = 78;
/// What a folded line begins with, and the columns that it takes.
const FOLD: (&str, usize) = ("\r\n\t", 8);

/// The Received header of a message, CRLF included. `for_one_recipient` is told only if there is one: the others
/// are nobody's business.
pub fn received_header(
    offered: &Offered,
    hostname: &Line,
    id: MessageId,
    at: UnixMs,
    for_one_recipient: Option<&Address>,
) -> Bytes {
    let mut words = Words { text: String::with_capacity(256), column: 0 };
    let ip = offered.client.ip().to_canonical();
    let ip = if ip.is_ipv6() { format!("([IPv6:{ip}])") } else { format!("([{ip}])") };
    words.add("Received: from");
    words.add(offered.helo.as_str());
    words.add(&ip);
    words.clause("by", hostname.as_str());
    words.clause("with", offered.protocol);
    if let Some(tls) = &offered.tls {
        words.add(&format!("({tls})"));
    }
    let end = if for_one_recipient.is_none() { ";" } else { "" };
    words.clause("id", &format!("{id}{end}"));
    if let Some(recipient) = for_one_recipient {
        words.clause("for", &format!("<{recipient}>;"));
    }
    words.add(&date(at));
    words.text.push_str("\r\n");
    words.text.into()
}

/// Words with a space or a fold between them.
struct Words {
    text: String,
    column: usize,
}

impl Words {
    fn add(&mut self, word: &str) {
        let width = word.chars().count();
        if self.column > 0 && self.column + 1 + width > MAX_COLUMNS {
            self.text.push_str(FOLD.0);
            self.column = FOLD.1;
        } else if self.column > 0 {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(word);
        self.column += width;
    }

    fn clause(&mut self, key: &str, value: &str) {
        self.add(&format!("{key} {value}"));
    }
}

/// The date in the form of RFC 5322 section 3.3, in UTC. A time that no calendar knows is the epoch.
fn date(at: UnixMs) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    rfc2822::to_string(&at.to_zoned_datetime(TimeZone::UTC)).unwrap_or_default()
}

/// How many Received headers a message has: what grows past 50 goes round in a loop (RFC 5321 section 6.3).
pub fn count_received(message: &[u8]) -> usize {
    const NAME: &[u8] = b"Received:";
    let (mut rest, mut count) = (message, 0);
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        count += usize::from(rest.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        rest = &rest[end..];
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageWish, Wishes};

    fn offered(helo: &str, client: &str) -> Offered {
        Offered {
            wish: MessageWish::default(),
            wishes: Wishes::default(),
            sender: None,
            recipients: vec![Address::parse("u@x.test").expect("an address")],
            eight_bit: false,
            smtputf8: false,
            not_before: None,
            body: Bytes::new(),
            client: client.parse().expect("an address"),
            helo: Line::new(helo).expect("a line"),
            tls: Some("TLSv1_3 TLS13_AES_256_GCM_SHA384".to_owned()),
            user: None,
            protocol: "ESMTPS",
        }
    }

    fn written(offered: &Offered, recipient: Option<&str>) -> String {
        let recipient = recipient.map(|r| Address::parse(r).expect("an address"));
        let host = Line::new("mx.test").expect("a line");
        let id = MessageId::from_bytes([0xab; 16]);
        let header = received_header(offered, &host, id, UnixMs(1_700_000_000_123), recipient.as_ref());
        String::from_utf8(header.into()).expect("text")
    }

    #[test]
    fn the_header_says_who_how_and_when() {
        let want = "Received: from relay.test ([192.0.2.1]) by mx.test with ESMTPS\r\n\
                    \t(TLSv1_3 TLS13_AES_256_GCM_SHA384) id abababababababababababababababab\r\n\
                    \tfor <u@x.test>; Tue, 14 Nov 2023 22:13:20 +0000\r\n";
        assert_eq!(written(&offered("relay.test", "192.0.2.1:9"), Some("u@x.test")), want);
    }

    #[test]
    fn without_one_recipient_nobody_is_told() {
        let header = written(&offered("relay.test", "[2001:db8::1]:9"), None);
        assert!(!header.contains("for <"), "{header}");
        assert!(header.contains("([IPv6:2001:db8::1])") && header.contains("abab; Tue, 14 Nov"), "{header}");
    }

    #[test]
    fn only_a_word_that_is_too_long_itself_makes_a_long_line() {
        let long = format!("{}@{}.test", "a".repeat(60), "b".repeat(63));
        let header = written(&offered(&"h".repeat(90), "[::ffff:192.0.2.1]:9"), Some(&long));
        for line in header.split_terminator("\r\n") {
            let words = line.split_whitespace().count();
            assert!(line.len() <= MAX_COLUMNS || words <= 2, "{line:?}");
        }
        assert!(header.contains("([192.0.2.1])"), "{header}");
    }

    #[test]
    fn headers_are_counted_and_the_body_is_not() {
        for (message, want) in [
            ("", 0),
            ("Received: a\r\n\tb\r\nreceived: c\r\nX: Received:\r\n\r\nReceived: d\r\n", 2),
            ("\r\nReceived: a\r\n", 0),
            ("Received", 0),
            ("RECEIVED:", 1),
        ] {
            assert_eq!(count_received(message.as_bytes()), want, "{message:?}");
        }
    }
}
