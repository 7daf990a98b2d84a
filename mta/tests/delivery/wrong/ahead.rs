//! Messages that are sent behind one another, to a server that has shown how it answers: each row is of the first of
//! two that are on their way together, and says what follows for the second, too.

use egret_mta::message::Verdict::{Bounce, Delivered};

use super::{BRIEF, Row, row};
use crate::bench::{COUNTED, script};
use crate::smtp::{Hear, Mute, Reset, Say, Step, Take};

/// The bytes of a message of these tests.
const BYTES: usize = 16;
const TAKEN: &str = "250 2.1.0 s\r\n250 2.1.5 r\r\n250 2.0.0 taken\r\n";
const RESET: &str = "250 2.0.0 reset\r\n";

/// Two messages that are taken one after the other, then two that come together.
fn proven(then: &[Step]) -> Vec<Step> {
    let offers = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
    let one = [Hear, Hear, Hear, Take(BYTES)];
    let behind = [Hear, Hear, Hear, Hear, Take(BYTES)];
    let first = [&[Say("220 mx.test\r\n"), Hear, Say(offers)], &one[..], &[Say(TAKEN)]].concat();
    let second = [&behind[..], &[Say(RESET), Say(TAKEN)]].concat();
    script(&[first, second, one.to_vec(), behind.to_vec(), then.to_vec()])
}

fn ahead(name: &'static str, first: egret_mta::message::Verdict, words: &'static str, then: &[Step]) -> Row {
    row(name, proven(then), first, words).proven().goes_on()
}

pub(super) fn rows() -> Vec<Row> {
    [taken(), gone(), mixed()].into_iter().flatten().collect()
}

/// The session goes on.
fn taken() -> Vec<Row> {
    let next = [Say(RESET), Say(TAKEN), Hear, Say("221 bye\r\n")];
    let then = |answers: &'static str| [&[Say(answers)], &next[..]].concat();
    vec![
        ahead("A1 both answered at once", Delivered, "250 2.0.0 taken", &then(TAKEN)),
        ahead(
            "A2 BDAT of the first refused",
            Bounce,
            "554 5.7.1 spam",
            &then("250 2.1.0 s\r\n250 2.1.5 r\r\n554 5.7.1 spam\r\n"),
        ),
        ahead(
            "A3 BDAT of the first 503",
            COUNTED,
            "503 5.5.1 x",
            &then("250 2.1.0 s\r\n250 2.1.5 r\r\n503 5.5.1 x\r\n"),
        ),
        ahead(
            "A4 recipient of the first refused",
            Bounce,
            "550 5.1.1 who",
            &then("250 2.1.0 s\r\n550 5.1.1 who\r\n503 5.5.1 nobody\r\n"),
        ),
        ahead(
            "A5 sender of the first refused",
            Bounce,
            "550 5.7.1 not you",
            &then("550 5.7.1 not you\r\n503 5.5.1 x\r\n503 5.5.1 x\r\n"),
        ),
    ]
}

/// The server leaves, or is silent.
fn gone() -> Vec<Row> {
    vec![
        ahead("A6 closed behind the first", Delivered, "250 2.0.0 taken", &[Say(TAKEN)]).next(COUNTED).uncertain(),
        ahead("A7 reset behind the first", Delivered, "250 2.0.0 taken", &[Say(TAKEN), Reset])
            .next(COUNTED)
            .uncertain(),
        ahead("A8 reset behind the content of both", COUNTED, "at BDAT", &[Reset]).next(COUNTED).uncertain(),
        ahead("A9 421 behind the first", Delivered, "250 2.0.0 taken", &[Say(TAKEN), Say("421 4.7.0 enough\r\n")])
            .connections(2),
        ahead("A10 421 to the first", Delivered, "250", &[Say("421 4.7.0 enough\r\n")]).connections(2),
        ahead(
            "A11 421 to the recipient of the first",
            COUNTED,
            "421 4.7.0 slow",
            &[Say("250 2.1.0 s\r\n421 4.7.0 slow\r\n")],
        )
        .connections(2),
        ahead("A12 silent behind the first", Delivered, "250 2.0.0 taken", &[Say(TAKEN), Mute])
            .set(|options| options.smtp.timeouts.rset = BRIEF)
            .next(COUNTED)
            .uncertain(),
    ]
}

/// An answer too many, too few, or that cannot be.
fn mixed() -> Vec<Row> {
    let all = |answers: &'static str| [Say(answers), Say(RESET), Say(TAKEN), Mute];
    vec![
        ahead("A13 an answer to the first is missing", COUNTED, "at BDAT", &all("250 2.1.0 s\r\n250 2.0.0 taken\r\n")),
        ahead(
            "A14 the answer to the content of the first is missing",
            COUNTED,
            "at BDAT",
            &all("250 2.1.0 s\r\n250 2.1.5 r\r\n"),
        ),
        ahead(
            "A15 an answer to the first twice",
            COUNTED,
            "at BDAT",
            &all("250 2.1.0 s\r\n250 2.1.0 s\r\n250 2.1.5 r\r\n250 2.0.0 taken\r\n"),
        ),
        ahead(
            "A16 two answers to the content of the first",
            Delivered,
            "250 2.0.0 taken",
            &all("250 2.1.0 s\r\n250 2.1.5 r\r\n250 2.0.0 taken\r\n250 2.0.0 taken\r\n"),
        ),
        ahead(
            "A17 RSET refused",
            Delivered,
            "250 2.0.0 taken",
            &[Say(TAKEN), Say("502 5.5.1 what\r\n"), Say(TAKEN), Mute],
        ),
        ahead(
            "A18 421, and it goes on",
            COUNTED,
            "421 4.7.0 slow",
            &[Say("250 2.1.0 s\r\n421 4.7.0 slow\r\n503 5.5.1 x\r\n"), Say(RESET), Say(TAKEN), Mute],
        ),
        ahead("A19 354 to the first", COUNTED, "at BDAT", &all("250 2.1.0 s\r\n354 go\r\n250 2.0.0 taken\r\n")),
    ]
    .into_iter()
    .map(|row| row.next(COUNTED).uncertain())
    .collect()
}
