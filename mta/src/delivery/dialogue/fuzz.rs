//! The dialogue against a server that says anything at all. Floor 2.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{Act, Dialogue, Envelope, Login, Lost, Manner, Stage};
use crate::dns::site::Protocol;
use crate::message::Address;
use crate::shaping::options::{Mechanism, Tls};

/// Plays a session against arbitrary bytes of the server: the entry of the fuzz target.
pub fn fuzz_dialogue(bytes: &[u8]) {
    let recipients = [Address::parse("a@b.test"), Address::parse("c@b.test")];
    let recipients: Vec<_> = recipients.into_iter().flatten().collect();
    let tls = if bytes.first().is_some_and(|b| b % 2 == 0) { Tls::OpportunisticInsecure } else { Tls::Disabled };
    let protocol = if bytes.get(1).is_some_and(|b| b % 3 == 0) { Protocol::Lmtp } else { Protocol::Smtp };
    let even = bytes.len().is_multiple_of(2);
    let dialogue = Dialogue::new(
        "client.test",
        Manner {
            protocol,
            tls,
            may_pipeline: even,
            may_chunk: true,
            ignore_8bit_checks: even,
            may_reset: even,
            most_ahead: u32::try_from(bytes.len() % 4).unwrap_or_default(),
        },
    );
    let login = Login { username: "u".to_owned(), secret: "s".to_owned(), mechanisms: Mechanism::ALL.to_vec() };
    let mut dialogue = dialogue.authenticate(bytes.get(2).is_some_and(|b| b % 4 == 0).then_some(login));
    let (mut input, mut send) = (BytesMut::new(), Vec::new());
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>().into_iter();
    let (mut begun, mut under_way) = (0, VecDeque::new());
    let envelope = Envelope { sender: None, size: 10, eight_bit: false, smtputf8: false, wanted: None };
    loop {
        let step = dialogue.step(&mut input, &mut send);
        let line = if step.is_none() { lines.next() } else { None };
        let act = match (step, line) {
            (Some(act), _) => act,
            (None, Some(line)) => {
                // Now and then a line comes before it was asked for.
                input.extend_from_slice(line);
                if line.len() % 7 == 6 {
                    input.extend_from_slice(lines.next().unwrap_or_default());
                }
                continue;
            }
            (None, None) => dialogue.lost(&Lost::Closed),
        };
        match act {
            Act::Upgrade => dialogue.upgraded(&mut send),
            Act::SendContent => dialogue.content_written(),
            Act::Finished(finished) => {
                let mut seen: Vec<u16> = finished.decided.iter().map(|d| d.recipient).collect();
                seen.sort_unstable();
                let all: Vec<u16> = (0..under_way.pop_front().unwrap_or_default()).map(|n| n as u16).collect();
                assert_eq!(seen, all, "each recipient is decided once");
            }
            Act::Ready => {}
            Act::Refused(_) | Act::Left => break,
        }
        if dialogue.stage() == Stage::Idle && dialogue.has_behind() {
            dialogue.advance();
        }
        if dialogue.stage() == Stage::Idle && !dialogue.is_usable() {
            break;
        }
        // Those behind which others may go have one recipient; so has every other one here.
        let few = |n: usize| recipients.iter().enumerate().map(|(n, r)| (n as u16, r)).take(n);
        if dialogue.stage() == Stage::Idle {
            let most = 1 + begun % 2;
            begun += 1;
            if dialogue.begin(&envelope, few(most), &mut send) {
                dialogue.content_written();
            }
            under_way.push_back(most);
        }
        while dialogue.may_follow() {
            dialogue.follow(&envelope, few(1), &mut send);
            under_way.push_back(1);
            if lines.len() % 5 != 4 {
                dialogue.content_written();
            }
        }
    }
    assert!(send.ends_with(b"\r\n") || send.is_empty());
}
