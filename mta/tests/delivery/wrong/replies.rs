//! Answers to MAIL, RCPT and DATA.

use egret_mta::message::Verdict::{self, Bounce, Delivered};
use egret_mta::shaping::options::PathOptions;

use super::{BRIEF, Row, after_end, after_reset, greeted, row};
use crate::bench::{COUNTED, script};
use crate::smtp::{Bytes, Content, Drip, Flood, HalfClose, Hear, Listen, Mute, Reset, Say, Step};

/// Hears MAIL, RCPT and DATA, and answers all this.
fn answers(text: &'static str, then: &[Step]) -> Vec<Step> {
    greeted(&script(&[vec![Hear, Hear, Hear, Say(text)], then.to_vec()]))
}

fn brief_mail(options: &mut PathOptions) {
    options.smtp.timeouts.mail_from = BRIEF;
}

fn brief_rcpt(options: &mut PathOptions) {
    options.smtp.timeouts.rcpt_to = BRIEF;
}

fn brief_data(options: &mut PathOptions) {
    options.smtp.timeouts.data = BRIEF;
}

/// The transaction is given up, and the session goes on behind RSET.
fn given_up(name: &'static str, text: &'static str, verdict: Verdict, words: &'static str) -> Row {
    row(name, answers(text, &after_reset()), verdict, words).goes_on()
}

pub(super) fn rows() -> Vec<Row> {
    [refused(), garbled(), cut(), many()].into_iter().flatten().collect()
}

/// Refusals, as the RFCs write them.
fn refused() -> Vec<Row> {
    let lone_dot = vec![Hear, Say("554 5.5.1 no recipients\r\n")];
    let not_for_nobody = |dot: Vec<Step>| answers("250 a\r\n550 5.1.1 b\r\n354 go\r\n", &script(&[dot, after_end()]));
    vec![
        row("R11 421 to MAIL", answers("421 4.3.2 leaving\r\n", &[Listen]), COUNTED, "421 4.3.2 leaving"),
        row("R11 421 to RCPT", answers("250 a\r\n421 4.7.0 slow down\r\n", &[Listen]), COUNTED, "421 4.7.0 slow down"),
        row("R11 421 to DATA", answers("250 a\r\n250 b\r\n421 4.3.2 no\r\n", &[Listen]), COUNTED, "421 4.3.2 no"),
        row("MAIL 550", answers("550 5.7.1 no\r\n503 x\r\n503 x\r\n", &after_end()), Bounce, "550 5.7.1 no").goes_on(),
        row("MAIL 451", answers("451 4.7.1 no\r\n503 x\r\n503 x\r\n", &after_end()), COUNTED, "451 4.7.1 no").goes_on(),
        given_up("R14 greylisted by 450", "250 a\r\n450 4.7.1 grey\r\n554 x\r\n", COUNTED, "450 4.7.1 grey"),
        given_up("R14 greylisted by 451", "250 a\r\n451 4.7.1 grey\r\n503 x\r\n", COUNTED, "451 4.7.1 grey"),
        given_up("R6 RCPT 550", "250 a\r\n550 5.1.1 who\r\n503 x\r\n", Bounce, "550 5.1.1 who"),
        given_up("R6 DATA 451", "250 a\r\n250 b\r\n451 4.3.0 disk\r\n", COUNTED, "451 4.3.0 disk"),
        given_up("R6 DATA 554", "250 a\r\n250 b\r\n554 5.7.1 no\r\n", Bounce, "554 5.7.1 no"),
        given_up("R15 452 to the only one", "250 a\r\n452 4.2.2 full\r\n554 x\r\n", COUNTED, "452 4.2.2 full"),
        row("R6 354 for nobody", not_for_nobody(lone_dot), Bounce, "550 5.1.1 b").goes_on(),
        // The dot for nobody is taken as a message: nobody has it.
        row("R6 354 for nobody, and 250", not_for_nobody(vec![Hear, Say("250 taken\r\n")]), Bounce, "550 5.1.1 b")
            .goes_on(),
    ]
}

/// Bytes that are no answer, or too many of them.
fn garbled() -> Vec<Row> {
    let mail = |bytes: &'static [u8]| greeted(&[Hear, Hear, Hear, Bytes(bytes), Listen]);
    let not_smtp = |name, bytes| row(name, mail(bytes), COUNTED, "is not an SMTP reply at MAIL");
    let odd = b"250-a \xff\x00\x1b[2J\n250 \x80\r\n250\r\n354 \x00go\n";
    let taken = script(&[vec![Hear, Hear, Hear, Bytes(odd), Content, Bytes(b"250 2.0.0 \xfe\x00ok\n")], after_end()]);
    vec![
        not_smtp("R5 code 99", b"99 a\r\n"),
        not_smtp("R5 code 2500", b"2500 a\r\n"),
        not_smtp("R5 code 250x", b"250x a\r\n"),
        not_smtp("R5 code 150", b"150 a\r\n"),
        not_smtp("R5 code 650", b"650 a\r\n"),
        not_smtp("R5 an empty line", b"\r\n"),
        not_smtp("R5 a stray NUL", b"\x00250 a\r\n"),
        row("R5 two codes in one reply", mail(b"250-a\r\n550 b\r\n"), COUNTED, "has the codes 250 and 550 at MAIL"),
        row("R5 LF alone, NUL and 8 bits", greeted(&taken), Delivered, "ok").goes_on(),
        row("R4 an answer without end", greeted(&[Hear, Flood("250-a\r\n")]), COUNTED, "65536 bytes at MAIL"),
        row("R5 a line without end", greeted(&[Hear, Flood("250 a")]), COUNTED, "65536 bytes at MAIL"),
        row("R4 an answer that drips", greeted(&[Hear, Drip("250-a\r\n")]), COUNTED, "at MAIL").set(brief_mail),
        row("R6 250 to DATA", answers("250 a\r\n250 b\r\n250 what\r\n", &[Listen]), COUNTED, "250 what")
            .set(|options| options.smtp.remember_broken_pipelining = std::time::Duration::ZERO),
        row("R6 334 to DATA", answers("250 a\r\n250 b\r\n334 what\r\n", &[Listen]), COUNTED, "334 what"),
    ]
}

/// Connections that end, or are silent.
fn cut() -> Vec<Row> {
    let leaves = |name, text, words| row(name, answers(text, &[]), COUNTED, words);
    let resets = |name, text, words| row(name, answers(text, &[Reset]), COUNTED, words);
    let silent = |name, text, words| row(name, answers(text, &[Mute]), COUNTED, words);
    vec![
        leaves("R16 closed at MAIL", "", "closed by the other side at MAIL"),
        leaves("R16 closed at RCPT", "250 a\r\n", "closed by the other side at RCPT"),
        leaves("R16 closed within a reply", "250 a\r\n25", "closed by the other side at RCPT"),
        leaves("R16 closed at DATA", "250 a\r\n250 b\r\n", "closed by the other side at DATA"),
        resets("R16 reset at MAIL", "", "at MAIL"),
        resets("R16 reset at RCPT", "250 a\r\n", "at RCPT"),
        resets("R16 reset at DATA", "250 a\r\n250 b\r\n", "at DATA"),
        silent("R1 no answer to MAIL", "", "no answer within 0 s at MAIL").set(brief_mail),
        silent("R1 no answer to RCPT", "250 a\r\n", "no answer within 0 s at RCPT").set(brief_rcpt),
        silent("R1 no answer to DATA", "250 a\r\n250 b\r\n", "no answer within 0 s at DATA").set(brief_data),
        row("R16 half-closed", answers("250 a\r\n", &[HalfClose]), COUNTED, "closed by the other side at RCPT"),
        row("R3 refused and closed", answers("550 5.7.1 listed\r\n", &[]), Bounce, "550 5.7.1 listed"),
    ]
}

/// Several recipients.
fn many() -> Vec<Row> {
    let four = vec![Hear, Hear, Hear, Hear, Hear, Hear];
    let each = "250 m\r\n250 a\r\n550 5.1.1 b\r\n450 4.2.1 c\r\n250 d\r\n354 go\r\n";
    let each = script(&[four, vec![Say(each), Content, Say("250 ok\r\n")], after_end()]);
    let again = |code: &'static str| {
        let first = vec![Hear, Hear, Hear, Hear, Say("250 m\r\n250 a\r\n"), Say(code), Say("354 go\r\n")];
        let second = vec![Content, Say("250 ok\r\n"), Hear, Hear, Hear, Say("250 m\r\n250 b\r\n354 go\r\n")];
        greeted(&script(&[first, second, vec![Content, Say("250 ok\r\n")], after_end()]))
    };
    vec![
        row("each recipient its own answer", greeted(&each), Delivered, "250 ok")
            .to(&["a@b.test", "b@b.test", "c@b.test", "d@b.test"], &[Delivered, Bounce, COUNTED, Delivered])
            .goes_on(),
        row("R15 452 too many recipients", again("452 4.5.3 many\r\n"), Delivered, "250 ok")
            .to(&["a@b.test", "b@b.test"], &[Delivered; 2])
            .goes_on(),
        row("R15 552 too many recipients", again("552 5.5.3 many\r\n"), Delivered, "250 ok")
            .to(&["a@b.test", "b@b.test"], &[Delivered; 2])
            .goes_on(),
    ]
}
