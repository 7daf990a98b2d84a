//! The session machine under any bytes. Pure. Floor 1.

use std::sync::Arc;

use egret_shared::address::private_networks;
use egret_shared::clock::UnixMs;
use egret_shared::text::Line;

use super::auth::{Auth, AuthSettings, Verdict};
use super::offer::{Offered, Refusal, Taken};
use super::session::{Act, Around, Session};
use super::settings::Settings;
use crate::message::MessageId;

/// Takes any bytes from a client that may relay: nothing panics, each reply line is well formed, no
/// offered message could end early for any receiver, and bytes that come one by one lead to the same
/// replies and offers.
pub fn fuzz_session(bytes: &[u8]) {
    let (replies, offers) = talk(bytes, bytes.len().max(1));
    assert_eq!((&replies, &offers), (&talk(bytes, 1).0, &talk(bytes, 1).1), "a split changed the session");
    for line in replies.split_inclusive(|b| *b == b'\n') {
        let code = line.first().is_some_and(|b| b"2345".contains(b)) && line.get(1..3).is_some();
        assert!(code && line.len() <= 512 && line.ends_with(b"\r\n"), "reply {:?}", String::from_utf8_lossy(line));
    }
    for offer in &offers {
        assert!(!offer.recipients.is_empty() && offer.body.len() as u64 <= settings().max_message_bytes);
        let mut rest: &[u8] = &offer.body;
        while let Some(at) = memchr::memchr3(b'\r', b'\n', 0, rest) {
            assert!(rest[at..].starts_with(b"\r\n"), "a bare CR, LF or NUL was offered");
            rest = &rest[at + 2..];
        }
    }
}

fn settings() -> Settings {
    let hostname = Line::sanitized(b"mx.test");
    let mut settings = Settings::new(hostname);
    settings.relay_networks = private_networks();
    (settings.max_message_bytes, settings.max_line_bytes, settings.max_recipients) = (300, 60, 3);
    settings.auth = AuthSettings { auth: Auth::Optional, in_clear: private_networks() };
    settings.max_future_release = std::time::Duration::from_secs(3_600);
    settings
}

/// The replies and offers of a session whose bytes come `size` at a time; every other offer is refused.
pub(super) fn talk(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<Offered>) {
    let mut session = Session::new(Arc::new(settings()), ([127, 0, 0, 1], 9).into(), None);
    let (mut input, mut replies, mut offers) = (Vec::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        loop {
            let mut out = Vec::new();
            let around = Around { now: UnixMs(1_700_000_000_000), gate: &|_| None };
            let step = session.step(&input, around, &mut out);
            input.drain(..step.used);
            replies.extend(out);
            match step.act {
                Act::Offer(offer) => {
                    let answer = match offers.len() % 2 {
                        0 => Ok(Taken::new(MessageId::from_bytes([7; 16]))),
                        _ => Err(Refusal::new(451, (4, 3, 0), "not now")),
                    };
                    offers.push(*offer);
                    let mut out = Vec::new();
                    session.answered(answer, &mut out);
                    replies.extend(out);
                }
                Act::Authenticate(shown) => {
                    let verdict = if shown.password == "p" { Verdict::Right } else { Verdict::Wrong };
                    let mut out = Vec::new();
                    session.authenticated(verdict, &mut out);
                    replies.extend(out);
                }
                Act::Flush => {}
                Act::More => break,
                Act::Close | Act::StartTls => return (replies, offers),
            }
        }
    }
    (replies, offers)
}
