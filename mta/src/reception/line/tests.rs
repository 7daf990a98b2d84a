//! Line endings, dots and limits, by table and by property. Floor 1.

use proptest::prelude::*;

use super::*;

const LIMITS: TextLimits = TextLimits { message: 1 << 20, line: 998 };

/// Feeds `wire` in pieces of `size`; the end, and what came of the text.
fn fed(wire: &[u8], size: usize, limits: TextLimits) -> (Option<usize>, Text) {
    let mut text = Text::new(Form::Dotted, limits);
    for (at, piece) in wire.chunks(size).enumerate() {
        if let Some(end) = text.feed(piece) {
            return (Some(at * size + end), text);
        }
    }
    (None, text)
}

fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// Sequences that some receiver takes for the end of data, and what this one says of the message.
const FALSE_ENDS: [(&[u8], Option<Unfit>); 27] = [
    (b"\n.\n", Some(Unfit::BareLf)),
    (b"\n.\r", Some(Unfit::BareLf)),
    (b"\r.\n", Some(Unfit::BareCr)),
    (b"\r.\r", Some(Unfit::BareCr)),
    (b"\n.\r\n", Some(Unfit::BareLf)),
    (b"\r.\r\n", Some(Unfit::BareCr)),
    (b"\r\n.\n", Some(Unfit::BareLf)),
    (b"\r\n.\r", Some(Unfit::BareCr)),
    (b"\r\n\0.\r\n", Some(Unfit::Nul)),
    (b"\r\n.\0\r\n", Some(Unfit::Nul)),
    (b"\r\n.\r\0\n", Some(Unfit::BareCr)),
    (b"\r\0\n.\r\n", Some(Unfit::BareCr)),
    (b"\r\n.\r\r\n", Some(Unfit::BareCr)),
    (b"\r\r\n.\r\r\n", Some(Unfit::BareCr)),
    (b"\n\n.\r\n", Some(Unfit::BareLf)),
    (b"\r\n.\n\r\n", Some(Unfit::BareLf)),
    (b"\n\r.\r\n", Some(Unfit::BareLf)),
    (b"\n\r.\n\r", Some(Unfit::BareLf)),
    (b"\r\n .\r\n", None),
    (b"\r\n. \r\n", None),
    (b"\r\n.\t\r\n", None),
    (b"\r\n..\r\n", None),
    (b"\x85.\x85", None),
    (b"\xe2\x80\xa8.\xe2\x80\xa8", None),
    (b"\x0b.\x0b", None),
    (b"\x0c.\x0c", None),
    (b"\xc2\x85.\xc2\x85", None),
];

#[test]
fn nothing_but_crlf_dot_crlf_ends_a_message_however_it_is_split() {
    for (sequence, fault) in FALSE_ENDS {
        let wire = [b"hello", sequence, b"MAIL FROM:<evil@x.test>\r\n.\r\n"].concat();
        for size in 1..=wire.len() {
            let (end, text) = fed(&wire, size, LIMITS);
            assert_eq!(end, Some(wire.len()), "{sequence:?} in pieces of {size}");
            assert_eq!(text.finish().err(), fault, "{sequence:?} in pieces of {size}");
        }
    }
}

#[test]
fn a_lone_dot_at_a_false_line_end_is_told_as_smuggling() {
    for (sequence, fault) in FALSE_ENDS {
        let wire = [b"hello", sequence, b"x\r\n.\r\n"].concat();
        for size in [1, 2, 3, wire.len()] {
            let (_, text) = fed(&wire, size, LIMITS);
            assert_eq!(text.smuggles(), fault.is_some(), "{sequence:?}");
        }
    }
    for wire in [&b"a\nb\r\n.\r\n"[..], b"a.\nb\r\n.\r\n", b".\r\n", b"..\r\n.\r\n"] {
        assert!(!fed(wire, wire.len(), LIMITS).1.smuggles(), "{wire:?}");
    }
}

#[test]
fn a_true_end_behind_a_bare_cr_ends_a_message_that_is_refused() {
    let wire = b"hello\r\r\n.\r\nMAIL";
    let (end, text) = fed(wire, wire.len(), LIMITS);
    assert_eq!((end, text.finish()), (Some(11), Err(Unfit::BareCr)));
}

#[test]
fn a_message_may_be_empty() {
    let (end, text) = fed(b".\r\n", 1, LIMITS);
    assert_eq!((end, text.finish()), (Some(3), Ok(Bytes::new())));
}

#[test]
fn the_limit_holds_to_the_byte_and_stuffed_dots_do_not_count() {
    let limits = TextLimits { message: 8, line: 998 };
    for (wire, fits) in [
        (&b"123456\r\n.\r\n"[..], true),
        (b"1234567\r\n.\r\n", false),
        (b"..2345\r\n.\r\n", true),
        (b"..\r\n..23\r\n.\r\n", true),
        (b"..\r\n..2345\r\n.\r\n", false),
    ] {
        for size in 1..=wire.len() {
            let (end, text) = fed(wire, size, limits);
            assert_eq!(end, Some(wire.len()));
            assert_eq!(text.finish().is_ok(), fits, "{wire:?} in pieces of {size}");
        }
    }
}

#[test]
fn what_is_over_the_limit_is_not_kept() {
    let mut text = Text::new(Form::Dotted, TextLimits { message: 1000, line: 998 });
    for _ in 0..10_000 {
        assert_eq!(text.feed(b"a line of a message\r\n"), None);
        assert!(text.kept.capacity() <= 4096, "{} bytes are kept", text.kept.capacity());
    }
    assert_eq!(text.feed(b".\r\n"), Some(3));
    assert_eq!(text.finish(), Err(Unfit::Big(1000)));
}

#[test]
fn a_line_may_have_998_bytes_and_no_more() {
    for (length, fits) in [(998, true), (999, false), (65_536, false)] {
        let wire = [&b"a".repeat(length)[..], b"\r\n.\r\n"].concat();
        assert_eq!(fed(&wire, 7, LIMITS).1.finish().is_ok(), fits, "{length}");
        let dotted = [&b"."[..], &b".".repeat(length), b"\r\n.\r\n"].concat();
        assert_eq!(fed(&dotted, 7, LIMITS).1.finish().is_ok(), fits, "{length} dots");
    }
}

#[test]
fn a_counted_text_keeps_its_dots_and_is_checked_like_any_other() {
    for (message, fault) in [
        (&b".\r\n\r\n.\r\n..\r\n"[..], None),
        (b"no end", None),
        (b"", None),
        (b"a\n", Some(Unfit::BareLf)),
        (b"a\r", Some(Unfit::BareCr)),
        (b"a\rb", Some(Unfit::BareCr)),
        (b"a\0b", Some(Unfit::Nul)),
    ] {
        for size in 1..=message.len().max(1) {
            let mut text = Text::new(Form::Counted, LIMITS);
            for piece in message.chunks(size) {
                assert_eq!(text.feed(piece), None);
            }
            let want = fault.map_or_else(|| Ok(Bytes::copy_from_slice(message)), Err);
            assert_eq!(text.finish(), want, "{message:?} in pieces of {size}");
        }
    }
}

#[test]
fn command_lines_end_at_crlf_alone() {
    assert_eq!(scan_line(b"NOOP\r\nRSET\r\n", MAX_COMMAND_BYTES), LineScan::Got(b"NOOP"));
    assert_eq!(scan_line(b"\r\n", MAX_COMMAND_BYTES), LineScan::Got(b""));
    for unclean in [&b"NOOP\nMAIL\r\n"[..], b"NOOP\rMAIL\r\n", b"NO\0P\r\n", b"NOOP\r\r\n"] {
        assert_eq!(scan_line(unclean, MAX_COMMAND_BYTES), LineScan::Unclean(unclean.len()));
    }
    for more in [&b""[..], b"NOOP", b"NOOP\r", b"NOOP\n"] {
        assert_eq!(scan_line(more, MAX_COMMAND_BYTES), LineScan::More);
    }
}

#[test]
fn a_command_line_has_its_limit_with_crlf_and_without() {
    for (verb, limit) in [(&b"aaaa "[..], MAX_COMMAND_BYTES), (b"AUTHa", MAX_COMMAND_BYTES), (b"auth ", MAX_AUTH_BYTES)]
    {
        let bytes = |length: usize| [verb, &b"a".repeat(length - verb.len())].concat();
        let line = |length: usize| [bytes(length - 2), b"\r\n".to_vec()].concat();
        let scan = |bytes: &[u8]| match scan_line(bytes, command_limit(bytes)) {
            LineScan::Got(line) => Some(line.len()),
            LineScan::Long => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(scan(&line(limit)), Some(limit - 2));
        assert_eq!((scan(&line(limit + 1)), scan(&bytes(limit))), (None, None));
        assert_eq!(scan_line(&bytes(limit - 1), limit), LineScan::More);
    }
}

/// A reader that is slow and plain: the first CRLF . CRLF, line by line.
fn plain_end(wire: &[u8]) -> Option<usize> {
    let full = [b"\r\n", wire].concat();
    memmem::find(&full, b"\r\n.\r\n").map(|at| at + 3)
}

proptest! {
    #[test]
    fn stuffing_is_undone_whatever_the_split(message in "(\\.{0,3}[a. ]{0,4}\r\n){0,9}", size in 1usize..40) {
        let wire = stuffed(message.as_bytes());
        let (end, text) = fed(&wire, size, LIMITS);
        prop_assert_eq!(end, Some(wire.len()));
        prop_assert_eq!(text.finish().expect("a clean message"), message.as_bytes());
    }

    #[test]
    fn the_end_is_where_a_plain_reader_finds_it(wire in "[a.\r\n\\x00]{0,40}", size in 1usize..9) {
        let wire = wire.as_bytes();
        let (end, text) = fed(wire, size, LIMITS);
        prop_assert_eq!(end, plain_end(wire));
        if let (Some(_), Ok(body)) = (end, text.finish()) {
            let bare = body.iter().enumerate().any(|(at, b)| match b {
                0 => true,
                b'\n' => at == 0 || body[at - 1] != b'\r',
                b'\r' => body.get(at + 1) != Some(&b'\n'),
                _ => false,
            });
            prop_assert!(!bare, "taken: {body:?}");
        }
    }
}
