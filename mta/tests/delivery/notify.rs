//! What a sender wants to hear goes on to a server that tells it, and comes back to us from one that does not.

use std::sync::Arc;

use egret_mta::dns::site::Protocol;
use egret_mta::message::{MessageWish, Notify, Original, RecipientWish, Return, Ticket, Verdict, Witness};
use egret_shared::text::Line;

use crate::bench::{Bench, bench, greeting, script};
use crate::smtp::{Content, Hear, Listen, Say, Step, serve};

const DSN: &str = "250-mx.test\r\n250-PIPELINING\r\n250-DSN\r\n250 SIZE 100000\r\n";

/// A message for three recipients: of one its sender wants to hear all, of one nothing, of one it said nothing.
fn asking(bench: &Bench, sender: Option<&str>) -> Ticket {
    let ticket = bench.store.add(&["all@b.test", "none@b.test", "x@b.test"], "x\r\n");
    let mut messages = bench.store.messages.lock();
    let meta = &mut Arc::make_mut(messages.last_mut().expect("a message")).meta;
    meta.sender = sender.map(|sender| egret_mta::message::Address::parse(sender).expect("an address"));
    meta.wish = MessageWish { ret: Some(Return::Full), envid: Line::new("my id").ok() };
    let wishes = &mut meta.parts[0].wishes;
    let original = Original::new("rfc822", "a=b@c.test");
    wishes.push(0, RecipientWish { notify: Notify::parse("SUCCESS,FAILURE,DELAY"), original });
    wishes.push(1, RecipientWish { notify: Some(Notify::NEVER), original: None });
    ticket
}

/// Takes a message for three recipients, the last answers as they are.
fn taking(answer: &'static str) -> Vec<Step> {
    vec![
        Hear,
        Hear,
        Hear,
        Hear,
        Hear,
        Say("250 s\r\n250 a\r\n250 b\r\n250 c\r\n354 go\r\n"),
        Content,
        Say(answer),
        Listen,
    ]
}

#[tokio::test]
async fn a_server_that_tells_senders_is_told_what_they_want_to_hear() {
    let offers = vec![Say("220 mx.test\r\n"), Hear, Say(DSN)];
    let (at, heard) = serve("127.0.0.1:0", vec![script(&[offers, taking("250 taken\r\n")])]).await;
    let bench = bench(&[at]);
    let ticket = asking(&bench, Some("me@a.test"));
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered; 3], "{}", end.words());
    assert_eq!(
        heard.lock()[0][1..5],
        [
            "MAIL FROM:<me@a.test> SIZE=16 RET=FULL ENVID=my+20id",
            "RCPT TO:<all@b.test> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+3Db@c.test",
            "RCPT TO:<none@b.test> NOTIFY=NEVER",
            "RCPT TO:<x@b.test>",
        ]
    );
    assert_eq!(end.witnesses, [None], "that server tells of it");
}

#[tokio::test]
async fn a_server_that_tells_nothing_hears_nothing_and_we_owe_the_word() {
    for (sender, owed) in [(Some("me@a.test"), true), (None, false)] {
        let (at, heard) = serve("127.0.0.1:0", vec![script(&[greeting(), taking("250 taken\r\n")])]).await;
        let bench = bench(&[at]);
        let ticket = asking(&bench, sender);
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [Verdict::Delivered; 3], "{}", end.words());
        let wire = heard.lock()[0].join("\n");
        assert!(!wire.contains("RET=") && !wire.contains("NOTIFY=") && !wire.contains("ORCPT="), "{wire}");
        let witness = Witness { remote: Some("mx0.test".into()), owed: vec![0], is_final: false };
        assert_eq!(end.witnesses, [owed.then(|| Box::new(witness))], "nobody is told for the null sender");
    }
}

#[tokio::test]
async fn what_an_lmtp_server_has_taken_is_delivered_and_what_it_refused_names_it() {
    let answers = "250 2.1.5 kept\r\n250 2.1.5 kept\r\n550 5.2.2 full\r\n";
    let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taking(answers)])]).await;
    let mut bench = bench(&[at]);
    bench.protocol = Protocol::Lmtp;
    let ticket = asking(&bench, Some("me@a.test"));
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered, Verdict::Delivered, Verdict::Bounce], "{}", end.words());
    let witness = Witness { remote: Some("mx0.test".into()), owed: vec![0], is_final: true };
    assert_eq!(end.witnesses, [Some(Box::new(witness))]);
}

#[tokio::test]
async fn a_delivery_of_which_nobody_wants_to_hear_has_no_witness_and_a_delay_has() {
    for (answer, has_witness) in [("250 taken\r\n", false), ("451 later\r\n", true)] {
        let lines = vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content, Say(answer), Listen];
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), lines])]).await;
        let bench = bench(&[at]);
        let ticket = bench.store.add(&["x@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.witnesses.iter().map(Option::is_some).collect::<Vec<_>>(), [has_witness], "{answer}");
    }
}
