//! What signing needs to know of a message: whose it is, and where its body really ends. Pure. Floor 1.

use mail_parser::{HeaderName, HeaderValue, MessageParser};

/// The domain that a message says it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// This one, in canonical spelling.
    One(String),
    /// It does not say, or says several.
    NoneOrSeveral,
}

/// The domain of the author. Two From headers, which RFC 5322 forbids, are none: each receiver would believe another.
pub(super) fn author(message: &[u8]) -> From {
    let parser = MessageParser::new().header_address(HeaderName::From).default_header_ignore();
    let Some(parsed) = parser.parse_headers(message) else { return From::NoneOrSeveral };
    let mut domains: Vec<String> = Vec::new();
    let mut headers = parsed.headers().iter().filter(|header| header.name == HeaderName::From);
    let (Some(header), None) = (headers.next(), headers.next()) else { return From::NoneOrSeveral };
    let HeaderValue::Address(addresses) = &header.value else { return From::NoneOrSeveral };
    for address in addresses.iter() {
        let domain = address.address.as_deref().and_then(|address| address.rsplit_once('@')).map(|(_, domain)| domain);
        match domain.map(|domain| idna::domain_to_ascii(domain.trim_end_matches('.'))) {
            Some(Ok(domain)) if !domain.is_empty() => domains.push(domain),
            _ => return From::NoneOrSeveral,
        }
    }
    domains.dedup();
    match domains.len() {
        1 => From::One(domains.remove(0)),
        _ => From::NoneOrSeveral,
    }
}

/// The message without lines of only white space at the end of its body.
pub(super) fn without_blank_end(message: &[u8]) -> &[u8] {
    let body = match memchr::memmem::find(message, b"\r\n\r\n") {
        _ if message.starts_with(b"\r\n") => 2,
        Some(at) => at + 4,
        None => return message,
    };
    let is_text = |b: &u8| !matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let Some(last) = message[body..].iter().rposition(is_text) else { return &message[..body] };
    let after = body + last + 1;
    match memchr::memmem::find(&message[after..], b"\r\n") {
        Some(end) => &message[..after + end + 2],
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_is_the_one_domain_of_the_one_from_header() {
        for (message, want) in [
            ("From: a@Example.COM\r\n\r\n", Some("example.com")),
            ("Subject: x\r\nfrom: \"A, B\" <a@b.test>\r\n\r\nFrom: evil@x.test\r\n", Some("b.test")),
            ("From:\r\n =?utf-8?q?J=C3=BCrgen?=\r\n <j@b\u{fc}cher.test>\r\n\r\n", Some("xn--bcher-kva.test")),
            ("From: a@b.test, c@b.test\r\n\r\n", Some("b.test")),
            ("From: a@b.test, c@d.test\r\n\r\n", None),
            ("From: a@b.test\r\nFrom: c@d.test\r\n\r\n", None),
            ("From: nobody\r\n\r\n", None),
            ("From: a@\r\n\r\n", None),
            ("Subject: x\r\n\r\n", None),
            ("", None),
        ] {
            let want = want.map_or(From::NoneOrSeveral, |domain| From::One(domain.to_owned()));
            assert_eq!(author(message.as_bytes()), want, "{message:?}");
        }
    }

    #[test]
    fn only_blank_lines_at_the_end_are_left_out() {
        for (message, want) in [
            ("A: b\r\n\r\ntext\r\n   \r\n", "A: b\r\n\r\ntext\r\n"),
            ("A: b\r\n\r\ntext \t\r\n\r\n\t\r\n", "A: b\r\n\r\ntext \t\r\n"),
            ("A: b\r\n\r\ntext\r\n", "A: b\r\n\r\ntext\r\n"),
            ("A: b\r\n\r\n \r\n\r\n", "A: b\r\n\r\n"),
            ("A: b\r\n\r\n", "A: b\r\n\r\n"),
            ("A: b\r\n", "A: b\r\n"),
            ("\r\n \r\n", "\r\n"),
        ] {
            assert_eq!(without_blank_end(message.as_bytes()), want.as_bytes(), "{message:?}");
        }
    }
}
