//! Sessions over real sockets: what becomes of each ticket when servers behave, and when they do not.

mod auth;
mod bench;
mod claims;
mod hosts;
mod lost;
mod notify;
mod path;
mod policy;
mod smtp;
mod way;
mod wrong;

use std::net::SocketAddr;
use std::sync::Arc;

use bench::{COUNTED, EHLO, UNCOUNTED, bench, greeting, script, taken};
use egret_mta::event::record::Kind;
use egret_mta::message::{MessageId, Verdict};
use egret_mta::shaping::options::Uncertain;
use egret_shared::fault::{Party, Reason};
use smtp::{Content, Hear, Listen, Reached, Reset, Say, Step, Take, serve};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn one_connection_carries_message_after_message() {
    let script = script(&[greeting(), taken(), taken(), vec![Hear, Say("221 bye\r\n")]]);
    let (at, heard) = serve("127.0.0.1:0", vec![script]).await;
    let bench = bench(&[at]);
    let store = bench.store.clone();
    let tickets = vec![store.add(&["x@b.test"], "one\r\n.dot\r\n"), store.add(&["y@b.test"], "zwei ü\r\n")];
    let ids: Vec<MessageId> = tickets.iter().map(|t| t.id).collect();
    let end = bench.run(tickets).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered, Verdict::Delivered]);
    assert!(end.connected && end.fault.is_none() && end.returned.is_empty());
    assert_eq!(*store.forgotten.lock(), ids);
    assert_eq!(store.kinds(), [Kind::Delivery, Kind::Delivery]);
    let event = store.events.lock()[0].clone();
    assert_eq!((event.recipients, event.attempt, event.size), (vec!["x@b.test".to_owned()], 1, 24));
    assert_eq!(event.response.map(|r| r.to_string()), Some("250 2.0.0 queued".to_owned()));
    assert!(event.timing.connect_ms.is_some() && store.events.lock()[1].timing.connect_ms.is_none());
    assert_eq!(
        heard.lock()[0],
        [
            "EHLO out.a.test",
            "MAIL FROM:<me@a.test> SIZE=24",
            "RCPT TO:<x@b.test>",
            "DATA",
            "Received: x",
            "one",
            "..dot",
            "MAIL FROM:<me@a.test> SIZE=22 BODY=8BITMIME",
            "RCPT TO:<y@b.test>",
            "DATA",
            "Received: x",
            "zwei ü",
            "QUIT",
        ]
    );
}

#[tokio::test]
async fn content_goes_by_bdat_as_it_is_where_that_is_offered() {
    let offers = vec![Say("220 mx.test\r\n"), Hear, Say("250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n")];
    let answers = "250 a\r\n250 b\r\n250 taken\r\n";
    let small = vec![Hear, Hear, Hear, Take(24), Say(answers)];
    // More than is sent without an answer: 64 KiB.
    let large = vec![Hear, Hear, Say("250 a\r\n250 b\r\n"), Hear, Take(70_013), Say("250 taken\r\n")];
    let (at, heard) = serve("127.0.0.1:0", vec![script(&[offers, small, large, vec![Listen]])]).await;
    let bench = bench(&[at]);
    let store = bench.store.clone();
    let body = "0123456\r\n.\r\n".repeat(70_000 / 12) + "1234\r\n";
    let tickets = vec![store.add(&["x@b.test"], "one\r\n.dot\r\n"), store.add(&["y@b.test"], &body[..70_000])];
    let end = bench.run(tickets).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered, Verdict::Delivered], "{} {:?}", end.words(), heard.lock());
    assert_eq!(end.words(), "250 taken; 250 taken");
    let heard = heard.lock()[0].clone();
    let whole = "Received: x\r\none\r\n.dot\r\n";
    assert_eq!(heard[1..5], ["MAIL FROM:<me@a.test>", "RCPT TO:<x@b.test>", "BDAT 24 LAST", whole]);
    assert_eq!((&*heard[7], heard[8].len()), ("BDAT 70013 LAST", 70_013));
    assert!(heard[8].ends_with(&body[..70_000]));
}

#[tokio::test]
async fn a_session_that_dies_behind_the_content_is_uncertain_however_little_was_answered() {
    let offers = vec![Say("220 mx.test\r\n"), Hear, Say("250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n")];
    let steps = vec![Hear, Hear, Hear, Take(16), Reset];
    let (at, _) = serve("127.0.0.1:0", vec![script(&[offers, steps])]).await;
    let bench = bench(&[at]);
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [COUNTED]);
    assert!(store.events.lock()[0].uncertain, "{}", end.words());
}

#[tokio::test]
async fn what_may_have_been_taken_is_handled_as_the_operator_wants() {
    for (uncertain, want, kind) in [
        (Uncertain::Retry, COUNTED, Kind::TransientFailure),
        (Uncertain::Hold, Verdict::Hold, Kind::TransientFailure),
        (Uncertain::Deliver, Verdict::Delivered, Kind::Delivery),
    ] {
        let steps = vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content];
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), steps])]).await;
        let mut bench = bench(&[at]);
        bench.options.smtp.uncertain = uncertain;
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!((end.verdicts(), store.kinds()), (vec![want], vec![kind]), "{uncertain:?}");
        assert!(store.events.lock()[0].uncertain);
    }
}

#[tokio::test]
async fn lmtp_servers_answer_for_each_recipient() {
    let steps = vec![
        Say("220 store\r\n"),
        Hear,
        Say(EHLO),
        Hear,
        Hear,
        Hear,
        Hear,
        Say("250 s\r\n250 a\r\n250 b\r\n354 go\r\n"),
        Content,
        Say("250 2.1.5 kept\r\n452 4.2.2 full\r\n"),
        Listen,
    ];
    let (at, heard) = serve("127.0.0.1:0", vec![steps]).await;
    let mut bench = bench(&[at]);
    bench.protocol = egret_mta::dns::site::Protocol::Lmtp;
    let ticket = bench.store.add(&["a@b.test", "c@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered, COUNTED], "{}", end.words());
    assert_eq!(heard.lock()[0][0], "LHLO out.a.test");
}

#[tokio::test]
async fn each_recipient_has_its_own_end() {
    let answers = "250 a\r\n250 b\r\n550 5.1.1 nobody\r\n450 4.2.1 later\r\n354 go\r\n";
    let lines = vec![Hear, Hear, Hear, Hear, Hear, Say(answers), Content, Say("250 ok\r\n"), Listen];
    let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), lines])]).await;
    let bench = bench(&[at]);
    let store = bench.store.clone();
    let mut ticket = store.add(&["a@b.test", "b@b.test", "c@b.test", "d@b.test"], "x\r\n");
    ticket.settled = vec![1];
    let end = bench.run(vec![ticket]).await;
    let mut results = end.settled[0].1.clone();
    results.sort_by_key(|r| r.0);
    let results: Vec<_> = results.iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(results, [(0, Verdict::Delivered), (2, Verdict::Bounce), (3, COUNTED)]);
    assert_eq!(store.events.lock().len(), 3);
}

#[tokio::test]
async fn recipients_beyond_a_batch_and_beyond_the_servers_limit_go_in_further_transactions() {
    let first = "250 a\r\n250 b\r\n452 4.5.3 too many\r\n354 go\r\n";
    let two = vec![Hear, Hear, Hear, Hear, Say(first), Content, Say("250 ok\r\n")];
    let both = vec![Hear, Hear, Hear, Hear, Say("250 a\r\n250 b\r\n250 c\r\n354 go\r\n"), Content, Say("250 ok\r\n")];
    let (at, heard) = serve("127.0.0.1:0", vec![script(&[greeting(), two, both, vec![Listen]])]).await;
    let mut bench = bench(&[at]);
    bench.options.max_recipients_per_batch = 2;
    let ticket = bench.store.add(&["a@b.test", "b@b.test", "c@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered; 3]);
    let rcpts: Vec<String> = heard.lock()[0].iter().filter(|l| l.starts_with("RCPT")).cloned().collect();
    assert_eq!(rcpts, ["a", "b", "c", "b"].map(|n| format!("RCPT TO:<{n}@b.test>")));
}

#[tokio::test]
async fn what_a_misbehaving_server_means() {
    let mail = |answer: &'static str| vec![Hear, Hear, Hear, Say(answer)];
    let content =
        |answer: &'static str| vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content, Say(answer)];
    for (steps, want, words) in [
        (mail("421 4.3.2 leaving\r\n"), COUNTED, "421 4.3.2 leaving"),
        (mail("550 5.7.1 no\r\n503 x\r\n503 x\r\n"), Verdict::Bounce, "550 5.7.1 no"),
        (mail("250 a\r\n450 4.7.1 greylisted\r\n554 none\r\n"), COUNTED, "450 4.7.1 greylisted"),
        (mail("250 a\r\n250 b\r\n451 disk\r\n"), COUNTED, "451 disk"),
        (mail("250 a\r\n250 b\r\n"), COUNTED, "421 4.4.2 connection closed by the other side at DATA"),
        (mail("250 a\r\n25"), COUNTED, "421 4.4.2 connection closed by the other side at RCPT"),
        (mail("250 a\r\nhello\r\n"), COUNTED, "421 4.5.0 protocol error: \"hello\" is not an SMTP reply at RCPT"),
        (content("554 5.7.1 spam\r\n"), Verdict::Bounce, "554 5.7.1 spam"),
        (content("451 4.0.0 busy\r\n"), COUNTED, "451 4.0.0 busy"),
        (content(""), COUNTED, "421 4.4.2 connection closed by the other side at ."),
    ] {
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), steps])]).await;
        let bench = bench(&[at]);
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!((end.verdicts(), end.words()), (vec![want], words.to_owned()));
        assert_eq!(store.events.lock()[0].uncertain, words.ends_with(" at ."), "{words}");
        assert!(end.fault.is_none() && end.returned.is_empty());
    }
}

#[tokio::test]
async fn a_server_that_leaves_between_messages_harms_neither() {
    for farewell in [vec![], vec![Hear, Hear, Hear, Say("421 4.7.0 enough\r\n")], vec![Hear, Reset]] {
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), farewell])]).await;
        let bench = bench(&[at]);
        let store = bench.store.clone();
        let tickets = vec![store.add(&["a@b.test"], "x\r\n"), store.add(&["b@b.test"], "x\r\n")];
        let (first, second) = (tickets[0].id, tickets[1].id);
        let end = bench.run(tickets).await;
        assert_eq!((end.settled[0].0, end.verdicts()), (first, vec![Verdict::Delivered]));
        // Returned, unless the session ended before it was handed over.
        assert!(end.returned.is_empty() || end.returned == [second]);
        assert_eq!(store.kinds(), [Kind::Delivery]);
    }
}

#[tokio::test]
async fn a_message_that_the_server_cannot_take_is_bounced_unsent() {
    let plain = "250-mx.test\r\n250 SIZE 20\r\n";
    for (recipient, body, words) in [
        ("a@b.test", "1234567890\r\n", "552 5.3.4"),
        ("a@b.test", "ü\r\n", "554 5.6.3"),
        ("ü@b.test", "x\r\n", "553 5.6.7"),
    ] {
        let (at, heard) = serve("127.0.0.1:0", vec![vec![Say("220 x\r\n"), Hear, Say(plain), Listen]]).await;
        let bench = bench(&[at]);
        let ticket = bench.store.add(&[recipient], body);
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [Verdict::Bounce]);
        assert!(end.words().starts_with(words), "{}", end.words());
        assert_eq!(heard.lock()[0].get(1).map_or("QUIT", String::as_str), "QUIT");
    }
}

#[tokio::test]
async fn eight_bits_are_sent_to_a_server_that_does_not_offer_them_only_if_that_is_wanted() {
    let greeting = vec![Say("220 x\r\n"), Hear, Say("250-x\r\n250 PIPELINING\r\n")];
    let (at, heard) = serve("127.0.0.1:0", vec![script(&[greeting, taken(), vec![Listen]])]).await;
    let mut bench = bench(&[at]);
    bench.options.smtp.ignore_8bit_checks = true;
    let ticket = bench.store.add(&["a@b.test"], "\u{fc}\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered], "{}", end.words());
    assert_eq!(heard.lock()[0][1], "MAIL FROM:<me@a.test>", "BODY is not told to who does not know it");
}

#[tokio::test]
async fn an_old_server_is_spoken_to_in_helo_and_lock_step() {
    let steps = vec![
        Say("220 old\r\n"),
        Hear,
        Say("502 what\r\n"),
        Hear,
        Say("250 old\r\n"),
        Hear,
        Say("250 a\r\n"),
        Hear,
        Say("250 b\r\n"),
        Hear,
        Say("354 c\r\n"),
        Content,
        Say("250 d\r\n"),
        Hear,
    ];
    let (at, heard) = serve("127.0.0.1:0", vec![steps]).await;
    let bench = bench(&[at]);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered]);
    assert_eq!(heard.lock()[0][1..3], ["HELO out.a.test", "MAIL FROM:<me@a.test>"]);
}

#[tokio::test]
async fn the_next_host_is_tried_and_the_last_words_count() {
    let (busy, _) = serve("127.0.0.1:0", vec![vec![Say("554 5.7.1 not you\r\n")]]).await;
    let dead = SocketAddr::from(([127, 0, 0, 1], 1));
    let (good, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
    let bench1 = bench(&[busy, dead, good]);
    let store = bench1.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench1.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered]);
    assert_eq!(store.kinds(), [Kind::Fault, Kind::Fault, Kind::Delivery]);

    let (busy, _) = serve("127.0.0.1:0", vec![vec![Say("554 5.7.1 not you\r\n")]]).await;
    let bench2 = bench(&[dead, busy]);
    let store = bench2.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench2.run(vec![ticket]).await;
    assert_eq!((end.verdicts(), end.words()), (vec![COUNTED], "554 5.7.1 not you".to_owned()));
    assert_eq!(end.fault.map(|f| f.party()), Some(Party::Remote));
    assert_eq!(store.kinds(), [Kind::Fault, Kind::Fault, Kind::TransientFailure]);
}

#[tokio::test]
async fn a_source_that_is_not_here_returns_the_ticket() {
    let (at, heard) = serve("127.0.0.1:0", vec![]).await;
    let mut bench = bench(&[at, at]);
    bench.source = [192, 0, 2, 77].into();
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let id = ticket.id;
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.fault.map(|f| f.reason), Some(Reason::SourceNotPlumbed));
    assert_eq!((end.returned, end.settled.len()), (vec![id], 0));
    assert_eq!((store.kinds(), heard.lock().len()), (vec![Kind::Fault], 0));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_stays_without_penalty() {
    let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
    let bench = bench(&[at]);
    let lost = bench.store.add(&["a@b.test"], "x\r\n");
    bench.store.messages.lock().clear();
    let good = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![lost, good]).await;
    assert_eq!(end.verdicts(), [UNCOUNTED, Verdict::Delivered]);
}

#[tokio::test]
async fn a_session_cut_short_says_where_each_recipient_stands() {
    for (answers, want, uncertain) in [
        (vec![Hear, Hear, Hear, Say("250 a\r\n")], UNCOUNTED, false),
        (vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 c\r\n"), Content], COUNTED, true),
    ] {
        let reached = Arc::new(tokio::sync::Notify::new());
        let steps = script(&[greeting(), answers, vec![Reached(reached.clone()), Listen]]);
        let (at, _) = serve("127.0.0.1:0", vec![steps]).await;
        let bench = bench(&[at]);
        let (store, stop) = (bench.store.clone(), bench.stop.clone());
        let ticket = store.add(&["a@b.test"], "x\r\n");
        tokio::spawn(async move {
            reached.notified().await;
            stop.cancel();
        });
        let end = bench.run(vec![ticket]).await;
        assert_eq!((end.verdicts(), end.returned.len()), (vec![want], 0));
        assert_eq!(store.events.lock()[0].uncertain, uncertain);
    }
}

#[tokio::test]
async fn a_session_cut_short_before_its_first_command_returns_the_ticket() {
    let reached = Arc::new(tokio::sync::Notify::new());
    let (at, _) = serve("127.0.0.1:0", vec![vec![Reached(reached.clone()), Listen]]).await;
    let bench = bench(&[at]);
    let stop = bench.stop.clone();
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let id = ticket.id;
    tokio::spawn(async move {
        reached.notified().await;
        stop.cancel();
    });
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.returned, end.settled.len(), end.fault), (vec![id], 0, None));
}

#[tokio::test]
async fn an_early_refusal_of_a_large_message_is_heard() {
    let steps = vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n552 5.3.4 too large\r\n")];
    let reached = Arc::new(tokio::sync::Notify::new());
    let wait = Reached(reached.clone());
    let ehlo = vec![Say("220 mx.test\r\n"), Hear, Say("250-x\r\n250 PIPELINING\r\n")];
    // The server reads nothing more: only a client that listens while it writes can end.
    let at = serve_and_hold(script(&[ehlo, steps, vec![wait]])).await;
    let bench = bench(&[at]);
    let ticket = bench.store.add(&["a@b.test"], &"0123456789abcde\r\n".repeat(2_000_000));
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.verdicts(), end.words()), (vec![Verdict::Bounce], "552 5.3.4 too large".to_owned()));
}

/// Plays one script and keeps the connection open, unread.
async fn serve_and_hold(script: Vec<Step>) -> SocketAddr {
    let (hold, at) = (Arc::new(tokio::sync::Notify::new()), "127.0.0.1:0");
    let listener = TcpListener::bind(at).await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let std = stream.into_std().expect("a socket");
        let kept = std.try_clone().expect("a second handle");
        let stream = TcpStream::from_std(std).expect("registered");
        let heard = smtp::Heard::default();
        heard.lock().push(Vec::new());
        smtp::play(stream, script, heard, 0).await;
        hold.notified().await;
        drop(kept);
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_wrong_has_its_consequence_and_harms_nothing_else() {
    let mut playing = tokio::task::JoinSet::new();
    for row in wrong::rows() {
        playing.spawn(wrong::play(row, egret_mta::routing::source::Way::Direct, "127.0.0.1:0"));
    }
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    playing.spawn(wrong::nobody_listens(egret_mta::routing::source::Way::Direct, nowhere));
    let mut failed = Vec::new();
    while let Some(played) = playing.join_next().await {
        failed.extend(played.err());
    }
    assert!(failed.is_empty(), "{} rows failed, as told above", failed.len());
}
