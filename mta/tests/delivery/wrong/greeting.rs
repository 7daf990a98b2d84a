//! Before a message is offered: the connection, the greeting, EHLO.

use std::net::SocketAddr;

use egret_mta::message::Verdict::{self, Bounce, Delivered};
use egret_shared::fault::Reason::{ConnectionTimeout, RemoteClosed, RemoteClosedPreBanner, RemoteResetPreBanner};

use super::{BRIEF, Row, after_end, row};
use crate::bench::{COUNTED, script};
use crate::smtp::{Bytes, Content, Drip, Flood, Hear, Listen, Mute, Reset, Say, Step};

/// Answers of which the last would be taken for that to BDAT, and so for a delivery.
const TWICE: &str = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n250 again\r\n";

/// Greets, hears EHLO, and then.
fn hello(steps: &[Step]) -> Vec<Step> {
    script(&[vec![Say("220 mx.test\r\n"), Hear], steps.to_vec()])
}

fn refused(name: &'static str, script: Vec<Step>, words: &'static str) -> Row {
    row(name, script, COUNTED, words).fault(&[RemoteClosed])
}

fn late(name: &'static str, script: Vec<Step>) -> Row {
    let row = row(name, script, COUNTED, "no answer within 0 s at greeting").fault(&[ConnectionTimeout]);
    row.set(|options| options.smtp.timeouts.banner = BRIEF)
}

fn late_hello(name: &'static str, then: Step) -> Row {
    let row = row(name, hello(&[then]), COUNTED, "no answer within 0 s at EHLO").fault(&[ConnectionTimeout]);
    row.set(|options| options.smtp.timeouts.ehlo = BRIEF)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        late("R1 no greeting", vec![Mute]),
        late("R2 a greeting that drips", vec![Drip("220-slow ")]),
        late("R4 a greeting without end that drips", vec![Drip("220-more\r\n")]),
        refused("R4 a greeting without end", vec![Flood("220-more\r\n")], "longer than 65536 bytes at greeting"),
        refused("R5 a greeting without line end", vec![Flood("220 more and more")], "longer than 65536 bytes"),
        refused("R3 greeting 421", vec![Say("421 4.3.2 busy\r\n")], "421 4.3.2 busy"),
        refused("R3 greeting 554", vec![Say("554 5.7.1 not you\r\n")], "554 5.7.1 not you"),
        refused("R3 greeting 450", vec![Say("450 4.7.0 later\r\n")], "450 4.7.0 later"),
        refused("R5 greets in HTTP", vec![Say("HTTP/1.1 400 Bad Request\r\n\r\n")], "not an SMTP reply at greeting"),
        refused("R5 greets in TLS", vec![Bytes(&[0x15, 3, 1, 0, 2, 2, 70, b'\n'])], "not an SMTP reply at greeting"),
        row("R16 closed before the greeting", vec![], COUNTED, "").fault(&[RemoteClosedPreBanner]),
        row("R16 reset before the greeting", vec![Reset], COUNTED, "").fault(&[RemoteResetPreBanner]),
        refused("R5 greets twice", vec![Say("220 a\r\n220 b\r\n"), Listen], "answers nothing that was asked at EHLO"),
        late_hello("R1 no answer to EHLO", Mute),
        late_hello("R4 an answer to EHLO that drips", Drip("250-more\r\n")),
        refused("R4 an answer to EHLO without end", hello(&[Flood("250-more\r\n")]), "longer than 65536 bytes at EHLO"),
        refused("R12 EHLO 421", hello(&[Say("421 4.3.2 leaving\r\n")]), "421 4.3.2 leaving"),
        refused("R12 EHLO 450", hello(&[Say("450 4.3.0 later\r\n")]), "450 4.3.0 later"),
        refused("R12 EHLO and HELO refused", hello(&[Say("502 a\r\n"), Hear, Say("554 no\r\n")]), "554 no"),
        refused("R16 closed at EHLO", hello(&[]), "closed by the other side at EHLO"),
        refused("R16 reset at EHLO", hello(&[Reset]), "at EHLO"),
        refused("R5 EHLO answered twice", hello(&[Say(TWICE), Listen]), "answers nothing that was asked at EHLO"),
        refused("R5 EHLO and 421 behind it", hello(&[Say("250 mx\r\n421 4.3.2 no\r\n"), Listen]), "421 4.3.2 no"),
    ];
    rows.extend(offers());
    rows
}

/// What EHLO may say.
fn offers() -> Vec<Row> {
    let plain = |ehlo: &'static str| script(&[hello(&[Say(ehlo)]), lock_step(), lock_step(), vec![Listen]]);
    let garbage = "250-mx.test\r\n250-SIZE many\r\n250-\x01PIPELINING\r\n250 SIZE -5 \r\n";
    let helo = script(&[hello(&[Say("502 what\r\n"), Hear, Say("250 old\r\n")]), lock_step(), lock_step()]);
    vec![
        row("R12 EHLO refused, HELO taken", helo, Delivered, "250 d").goes_on(),
        row("R12 EHLO offers nothing", plain("250 mx\r\n"), Delivered, "250 d").goes_on(),
        row("R12 EHLO offers rubbish", plain(garbage), Delivered, "250 d").goes_on(),
        row(
            "R12 SIZE too small",
            script(&[hello(&[Say("250-mx\r\n250-PIPELINING\r\n250 SIZE 20000000\r\n")]), after_end()]),
            Bounce,
            "552 5.3.4",
        )
        .large()
        .goes_on(),
    ]
}

/// A message that is taken, command by command.
fn lock_step() -> Vec<Step> {
    let answers = ["250 a\r\n", "250 b\r\n", "354 c\r\n"].map(|answer| vec![Hear, Say(answer)]).concat();
    [answers, vec![Content, Say("250 d\r\n")]].concat()
}

/// Where nobody listens there is no script: the fault is the destination's all the same.
pub async fn nobody_listens(way: egret_mta::routing::source::Way, at: SocketAddr) {
    let mut bench = crate::bench::bench(&[at]);
    bench.way = way;
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [COUNTED] as [Verdict; 1], "{}", end.words());
    let reasons: Vec<_> = store.events.lock().iter().filter_map(|event| event.reason).collect();
    assert_eq!(reasons, [egret_shared::fault::Reason::ConnectionRefused]);
}
