//! The content, the answer to it, and the goodbye.

use egret_mta::message::Verdict::{Bounce, Delivered};
use egret_mta::shaping::options::PathOptions;

use super::{BRIEF, Row, after_end, greeted, row};
use crate::bench::{COUNTED, script, taken};
use crate::smtp::{Content, Drip, Flood, Hear, Hold, Mute, Reset, Say, Step};

/// Asks for content.
fn asked(then: &[Step]) -> Vec<Step> {
    let greeting = vec![Say("220 mx.test\r\n"), Hear, Say("250-mx.test\r\n250 PIPELINING\r\n")];
    let go = vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n")];
    script(&[greeting, go, then.to_vec()])
}

fn brief(options: &mut PathOptions) {
    options.smtp.timeouts.data_dot = BRIEF;
}

fn brief_goodbye(options: &mut PathOptions) {
    (options.smtp.timeouts.rset, options.smtp.timeouts.idle) = (BRIEF, BRIEF);
}

/// The large content is to be stuck, not merely slow.
fn brief_blocks(options: &mut PathOptions) {
    options.smtp.timeouts.data = 3 * BRIEF;
}

pub(super) fn rows() -> Vec<Row> {
    let dot = |then: &[Step]| asked(&script(&[vec![Content], then.to_vec()]));
    vec![
        row(
            "R8 451 to the content",
            dot(&[&[Say("451 4.3.0 busy\r\n")], &*after_end()].concat()),
            COUNTED,
            "451 4.3.0",
        )
        .goes_on(),
        row("R8 554 to the content", dot(&[&[Say("554 5.7.1 spam\r\n")], &*after_end()].concat()), Bounce, "554 5.7.1")
            .goes_on(),
        row("R11 421 to the content", dot(&[Say("421 4.3.2 leaving\r\n"), Mute]), COUNTED, "421 4.3.2 leaving"),
        row("R7 closed behind the dot", dot(&[]), COUNTED, "closed by the other side at .").uncertain(),
        row("R7 reset behind the dot", dot(&[Reset]), COUNTED, "at .").uncertain(),
        row("R7 no answer to the dot", dot(&[Mute]), COUNTED, "no answer within 0 s at .").set(brief).uncertain(),
        row("R7 rubbish behind the dot", dot(&[Say("ok\r\n"), Mute]), COUNTED, "not an SMTP reply at .").uncertain(),
        row("R10 an answer to the dot that drips", dot(&[Drip("250-ok\r\n")]), COUNTED, "at .").set(brief).uncertain(),
        row("R4 an answer to the dot without end", dot(&[Flood("250-a\r\n")]), COUNTED, "65536 bytes at .").uncertain(),
        row("R9 250, then reset", dot(&[Say("250 2.0.0 ok\r\n"), Reset]), Delivered, "250 2.0.0 ok"),
        row("R9 250, then closed", dot(&[Say("250 2.0.0 ok\r\n")]), Delivered, "250 2.0.0 ok"),
        row("R5 two answers to the dot", dot(&[Say("250 ok\r\n250 again\r\n"), Mute]), Delivered, "250 ok"),
        row("R11 250 and 421 behind it", dot(&[Say("250 ok\r\n421 4.3.2 bye\r\n"), Mute]), Delivered, "250 ok"),
        row("R16 reset within the content", asked(&[Hear, Reset]), COUNTED, "at content").large(),
        row("R16 closed within the content", asked(&[Hear]), COUNTED, "at content").large(),
        row("R16 reads no more", asked(&[Hold]), COUNTED, "within 0 s at content").large().set(brief_blocks),
        row("R16 drips and reads no more", asked(&[Drip("250-a\r\n")]), COUNTED, "within 0 s at content")
            .large()
            .set(brief_blocks),
        row("R4 floods and reads no more", asked(&[Flood("250-a\r\n")]), COUNTED, "65536 bytes at content").large(),
        row("R19 no answer to QUIT", goodbye(&[Mute]), Delivered, "250 2.0.0").set(brief_goodbye).goes_on(),
        row("R19 an answer to QUIT without end", goodbye(&[Flood("221-bye\r\n")]), Delivered, "250 2.0.0").goes_on(),
        row("R19 an answer to QUIT that drips", goodbye(&[Drip("221-b\r\n")]), Delivered, "250 2.0.0")
            .set(brief_goodbye)
            .goes_on(),
        row("R19 more behind the answer to QUIT", goodbye(&[Say("221 bye\r\n550 more\r\n"), Mute]), Delivered, "250")
            .goes_on(),
    ]
}

/// Two messages are taken, and then QUIT comes.
fn goodbye(then: &[Step]) -> Vec<Step> {
    greeted(&script(&[taken(), taken(), vec![Hear], then.to_vec()]))
}
