//! Content on its way into DATA: dots stuffed (RFC 5321 section 4.5.2) without a copy; into BDAT as it is.
//! Pure. Floor 1.
//! Always: what is written holds exactly one end of data, its last five bytes, and unstuffing gives
//! the content back (with a final CRLF, if it had none).

use memchr::memmem;

use crate::message::Content;

/// The pieces to be written, in order: clean runs of the content, dots between them, and the end.
pub fn pieces(content: &Content) -> Vec<&[u8]> {
    let (mut found, finder) = (Vec::with_capacity(4), memmem::Finder::new(b"\n."));
    for part in [&content.added, &content.body] {
        let part: &[u8] = part;
        let mut start = 0;
        if part.first() == Some(&b'.') && is_at_line_start(&found) {
            found.push(&b"."[..]);
        }
        for hit in finder.find_iter(part) {
            found.push(&part[start..=hit]);
            found.push(b".");
            start = hit + 1;
        }
        if start < part.len() {
            found.push(&part[start..]);
        }
    }
    found.push(if found.is_empty() || ends_with_crlf(&found) { b".\r\n" } else { b"\r\n.\r\n" });
    found
}

/// The pieces for BDAT: as they are.
pub fn whole(content: &Content) -> Vec<&[u8]> {
    [&content.added[..], &content.body[..]].into_iter().filter(|piece| !piece.is_empty()).collect()
}

fn is_at_line_start(found: &[&[u8]]) -> bool {
    found.last().is_none_or(|last| last.last() == Some(&b'\n'))
}

fn ends_with_crlf(found: &[&[u8]]) -> bool {
    let mut last = found.iter().rev().flat_map(|piece| piece.iter().rev());
    last.next() == Some(&b'\n') && last.next() == Some(&b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(added: &str, body: &str) -> Vec<u8> {
        pieces(&Content { added: added.to_owned().into(), body: body.to_owned().into() }).concat()
    }

    /// A strict receiver: content up to the first CRLF . CRLF, and what follows it.
    fn unstuff(wire: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        let (mut content, mut rest) = (Vec::new(), wire);
        loop {
            let end = memmem::find(rest, b"\r\n")? + 2;
            let (line, after) = rest.split_at(end);
            rest = after;
            match line {
                b".\r\n" => return Some((content, rest)),
                [b'.', line @ ..] | line => content.extend_from_slice(line),
            }
        }
    }

    #[test]
    fn dots_at_line_starts_are_doubled_and_only_they() {
        for (added, body, want) in [
            ("", "", ".\r\n"),
            ("", "a\r\n", "a\r\n.\r\n"),
            ("", "a", "a\r\n.\r\n"),
            ("", ".\r\n", "..\r\n.\r\n"),
            ("X: 1\r\n", ".a\r\nb.\r\n..c\r\n", "X: 1\r\n..a\r\nb.\r\n...c\r\n.\r\n"),
            ("", "a\r", "a\r\r\n.\r\n"),
            ("", "a\n", "a\n\r\n.\r\n"),
        ] {
            assert_eq!(wire(added, body), want.as_bytes(), "{added:?} {body:?}");
        }
    }

    #[test]
    fn a_line_end_that_only_lenient_receivers_know_does_not_end_the_content() {
        assert_eq!(wire("", "a\n.\nMAIL FROM:<x>\r\n"), b"a\n..\nMAIL FROM:<x>\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn stuffing_is_undone_by_the_receiver(added in "(\\.?[a.]{0,3}\r\n){0,3}", body in "(\\.{0,3}[a.]{0,3}\r\n){0,9}") {
            let wire = wire(&added, &body);
            let (content, rest) = unstuff(&wire).expect("an end of data");
            prop_assert_eq!(content, [added.as_bytes(), body.as_bytes()].concat());
            prop_assert!(rest.is_empty(), "bytes after the end: {rest:?}");
        }
    }
}
