//! PIPELINING and CHUNKING that are offered and broken.

use egret_mta::message::Verdict::{Bounce, Delivered};

use super::{BRIEF, Row, greeted, one_by_one, row};
use crate::bench::{COUNTED, script, taken};
use crate::smtp::{Bytes, Hear, Listen, Mute, Reset, Say, Step, Take};

const CHUNKING: &str = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
const TWO: &[&str] = &["a@b.test", "b@b.test"];
/// The bytes of a message of these tests.
const BYTES: usize = 16;

fn chunking(then: &[Step]) -> Vec<Step> {
    script(&[vec![Say("220 mx.test\r\n"), Hear, Say(CHUNKING)], then.to_vec()])
}

/// Content by DATA, in spite of what is offered.
fn by_data() -> Vec<Step> {
    chunking(&script(&[taken(), taken(), vec![Listen]]))
}

pub(super) fn rows() -> Vec<Row> {
    [pipelining(), bdat()].into_iter().flatten().collect()
}

/// The next connection is spoken to command by command.
fn pipelining() -> Vec<Row> {
    // The message that was not taken is tried again when it is due: only the next one is left.
    let next = || one_by_one(1);
    let mixed = |name, answers| {
        let first = greeted(&[Hear, Hear, Hear, Say(answers), Mute]);
        row(name, first, Delivered, "250").then(next())
    };
    vec![
        row("R13 commands behind the first are dropped", greeted(&[Hear, Say("250 a\r\n"), Mute]), COUNTED, "at RCPT")
            .set(|options| options.smtp.timeouts.rcpt_to = BRIEF)
            .then(next()),
        row("R13 commands in one packet are dropped", greeted(&[Mute]), COUNTED, "at MAIL")
            .set(|options| options.smtp.timeouts.mail_from = BRIEF)
            .then(next()),
        row("R13 reset for commands in one packet", greeted(&[Hear, Reset]), COUNTED, "at MAIL").then(next()),
        row("R13 closed for commands in one packet", greeted(&[Hear, Say("250 a\r\n")]), COUNTED, "at RCPT")
            .then(next()),
        row(
            "R13 one answer to two recipients, and silence",
            greeted(&[Hear, Hear, Hear, Hear, Say("250 m\r\n550 5.1.1 b\r\n503 x\r\n"), Mute]),
            COUNTED,
            "at DATA",
        )
        // Who was meant by the 550 nobody knows.
        .to(TWO, &[COUNTED; 2])
        .set(|options| options.smtp.timeouts.data = BRIEF)
        .then(next()),
        row(
            "R13 one answer to two recipients",
            greeted(&[Hear, Hear, Hear, Hear, Say("250 m\r\n550 5.1.1 b\r\n354 go\r\n"), Mute]),
            Delivered,
            "250",
        )
        .to(TWO, &[Delivered; 2])
        .then(one_by_one(2)),
        mixed("R13 answers out of order", "354 go\r\n250 a\r\n250 b\r\n"),
        mixed("R13 354 to RCPT", "250 a\r\n354 go\r\n250 b\r\n"),
        mixed("R13 one answer too many", "250 a\r\n250 a\r\n250 b\r\n354 go\r\n"),
    ]
}

/// The next connection gets DATA.
fn bdat() -> Vec<Row> {
    let refused = |name, answers| {
        row(name, chunking(&[Hear, Hear, Hear, Take(BYTES), Say(answers), Listen]), Delivered, "250 2.0.0")
            .then(by_data())
    };
    let nobody = "250 m\r\n550 5.1.1 a\r\n503 5.5.1 nobody\r\n";
    let next = vec![Hear, Hear, Hear, Hear, Take(BYTES), Say("250 r\r\n250 m\r\n250 a\r\n250 ok\r\n"), Listen];
    vec![
        refused("BDAT 500, and the content is taken for commands", "250 m\r\n250 a\r\n500 x\r\n500 x\r\n500 x\r\n"),
        refused("BDAT 502", "250 m\r\n250 a\r\n502 what\r\n"),
        refused("BDAT 503 though a recipient was taken", "250 m\r\n250 a\r\n503 what\r\n"),
        row(
            "BDAT 503 for nobody",
            chunking(&script(&[vec![Hear, Hear, Hear, Take(BYTES), Say(nobody)], next])),
            Bounce,
            "550 5.1.1 a",
        )
        .goes_on(),
        row(
            "BDAT 552",
            chunking(&[Hear, Hear, Hear, Take(BYTES), Say("250 m\r\n250 a\r\n552 5.3.4 big\r\n"), Mute]),
            Bounce,
            "552 5.3.4 big",
        )
        .set(|options| options.max_deliveries_per_connection = 1),
        row("R7 reset behind BDAT", chunking(&[Hear, Hear, Hear, Take(BYTES), Reset]), COUNTED, "at BDAT").uncertain(),
        row(
            "R5 two answers to BDAT",
            chunking(&[Hear, Hear, Hear, Take(BYTES), Bytes(b"250 m\r\n250 a\r\n250 ok\r\n550 no\r\n"), Mute]),
            Delivered,
            "250 ok",
        ),
    ]
}
