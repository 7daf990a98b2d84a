//! The dialogue against scripted replies, and against any bytes. Floor 2.

mod ahead;

use proptest::prelude::*;

use super::*;

const EHLO: &str = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8bitmime\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address of the test")
}

fn manner(tls: Tls) -> Manner {
    Manner {
        protocol: Protocol::Smtp,
        tls,
        may_pipeline: true,
        may_chunk: true,
        ignore_8bit_checks: false,
        may_reset: true,
        most_ahead: 0,
    }
}

/// Plays `server` in pieces of at most `piece` bytes; one transaction of two recipients whenever the
/// session is ready, up to three. Returns what was sent and what came of it.
fn play(server: &[u8], piece: usize, tls: Tls) -> (String, Vec<Act>) {
    let recipients = [address("a@b.test"), address("c@b.test")];
    let sender = address("s@a.test");
    let envelope = Envelope { sender: Some(&sender), size: 10, eight_bit: false, smtputf8: false, wanted: None };
    let mut dialogue = Dialogue::new("me.test", manner(tls));
    let (mut input, mut send, mut acts, mut begun) = (BytesMut::new(), Vec::new(), Vec::new(), 0);
    // A server answers when it was asked: its lines come one by one.
    let mut rest = server.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(piece.max(1)));
    loop {
        let act = match dialogue.step(&mut input, &mut send) {
            Some(act) => act,
            None => match rest.next() {
                Some(bytes) => {
                    input.extend_from_slice(bytes);
                    continue;
                }
                None => dialogue.lost(&Lost::Closed),
            },
        };
        match &act {
            Act::Upgrade => dialogue.upgraded(&mut send),
            Act::SendContent => {
                send.extend_from_slice(b"<content>\r\n.\r\n");
                dialogue.content_written();
            }
            _ => {}
        }
        acts.push(act);
        if dialogue.stage() == Stage::Idle && dialogue.is_usable() && begun < 3 {
            begun += 1;
            if dialogue.begin(&envelope, (0u16..).zip(&recipients), &mut send) {
                send.extend_from_slice(b"<content>");
                dialogue.content_written();
            }
        } else if dialogue.stage() == Stage::Idle || !dialogue.is_usable() {
            return (String::from_utf8(send).expect("text"), acts);
        }
    }
}

fn judgements(acts: &[Act]) -> Vec<Vec<(u16, Judgement)>> {
    let finished = acts.iter().filter_map(|act| match act {
        Act::Finished(finished) => Some(finished.decided.iter().map(|d| (d.recipient, d.judgement)).collect()),
        _ => None,
    });
    finished.collect()
}

#[test]
fn a_given_up_transaction_is_reset_together_with_the_next() {
    let refused = "250 a\r\n550 b\r\n550 c\r\n554 d\r\n";
    let server = format!("220 x\r\n{EHLO}{refused}250 reset\r\n250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 e\r\n");
    let (sent, acts) = play(server.as_bytes(), 1000, Tls::Disabled);
    let transaction = "MAIL FROM:<s@a.test> SIZE=10\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\n";
    let want = format!("EHLO me.test\r\n{transaction}RSET\r\n{transaction}<content>\r\n.\r\n{transaction}");
    assert_eq!(sent, want);
    let both = |judgement| vec![(0, judgement), (1, judgement)];
    assert_eq!(judgements(&acts)[..2], [both(Judgement::Bounce), both(Judgement::Delivered)]);
}

#[test]
fn content_for_nobody_is_a_lone_dot() {
    let server = format!("220 x\r\n{EHLO}250 a\r\n550 b\r\n550 c\r\n354 d\r\n554 none\r\n");
    let (sent, acts) = play(server.as_bytes(), 1000, Tls::Disabled);
    assert!(sent.contains("DATA\r\n.\r\nMAIL"), "{sent}");
    assert!(!acts.contains(&Act::SendContent));
    assert_eq!(judgements(&acts)[0], [(0, Judgement::Bounce), (1, Judgement::Bounce)]);
}

#[test]
fn a_server_that_leaves_before_the_first_answer_has_not_touched_the_message() {
    for (answers, untouched) in [("", true), ("421 bye\r\n", true), ("250 a\r\n421 bye\r\n", false)] {
        let server = format!("220 x\r\n{EHLO}{answers}");
        let (_, acts) = play(server.as_bytes(), 1000, Tls::Disabled);
        let Some(Act::Finished(finished)) = acts.last() else { panic!("{acts:?}") };
        assert_eq!(finished.is_untouched, untouched, "{answers:?}");
    }
}

#[test]
fn tls_is_never_skipped_where_it_is_required() {
    let plain = "220 x\r\n250 mx\r\n";
    let offered = "220 x\r\n250-mx\r\n250 STARTTLS\r\n454 not now\r\n";
    let rejected = "220 x\r\n502 what\r\n250 mx\r\n";
    for server in [plain, offered, rejected] {
        for tls in [Tls::Required, Tls::RequiredInsecure] {
            let (sent, acts) = play(server.as_bytes(), 1000, tls);
            assert!(matches!(acts[..], [Act::Refused(_)]) && !sent.contains("MAIL"), "{server:?}: {acts:?}");
        }
        let (sent, acts) = play(server.as_bytes(), 1000, Tls::OpportunisticInsecure);
        assert!(acts.contains(&Act::Ready) && sent.contains("MAIL"), "{server:?}: {acts:?}");
    }
}

#[test]
fn capabilities_of_before_tls_are_forgotten() {
    let mut dialogue = Dialogue::new("me.test", manner(Tls::OpportunisticInsecure));
    let mut send = Vec::new();
    let mut act = None;
    for reply in ["220 x\r\n", "250-mx\r\n250-STARTTLS\r\n250-SMTPUTF8\r\n250 SIZE 9\r\n", "220 go\r\n"] {
        act = dialogue.step(&mut BytesMut::from(reply.as_bytes()), &mut send);
    }
    assert_eq!(act, Some(Act::Upgrade));
    dialogue.upgraded(&mut send);
    assert_eq!(dialogue.step(&mut BytesMut::from(&b"250-mx\r\n250 SIZE x\r\n"[..]), &mut send), Some(Act::Ready));
    assert_eq!(*dialogue.capabilities(), Capabilities { size: true, ..Capabilities::default() });
}

proptest! {
    #[test]
    fn any_cut_of_the_replies_gives_the_same_end(
        replies in prop::collection::vec("(250|354|421|450|452|550|552|9x) ?[a-z]{0,3}\r\n", 0..16),
        piece in 1usize..9,
        hello in any::<bool>(),
    ) {
        let server = format!("{}{}", if hello { format!("220 x\r\n{EHLO}") } else { String::new() }, replies.concat());
        let whole = play(server.as_bytes(), 100_000, Tls::Disabled);
        prop_assert_eq!(play(server.as_bytes(), piece, Tls::Disabled), whole);
    }

    #[test]
    fn each_recipient_is_decided_once_whatever_the_server_says(bytes in "((220|250|354|421|45[02]|55[02])[ -]?x?\r\n){0,20}") {
        fuzz_dialogue(bytes.as_bytes());
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        fuzz_dialogue(&bytes);
    }
}

/// One transaction of two recipients with a session that is ready; what is written, and whether the content follows.
fn begun(manner: Manner, greeting: &str, size: u64) -> (Dialogue, BytesMut, Vec<u8>, bool) {
    let (sender, recipients) = (address("s@a.test"), [address("a@b.test"), address("c@b.test")]);
    let mut dialogue = Dialogue::new("me.test", manner);
    let (mut input, mut send) = (BytesMut::from(&b"220 x\r\n"[..]), Vec::new());
    assert_eq!(dialogue.step(&mut input, &mut send), None);
    input.extend_from_slice(greeting.as_bytes());
    assert_eq!(dialogue.step(&mut input, &mut send), Some(Act::Ready));
    send.clear();
    let envelope = Envelope { sender: Some(&sender), size, eight_bit: false, smtputf8: false, wanted: None };
    let at_once = dialogue.begin(&envelope, (0u16..).zip(&recipients), &mut send);
    (dialogue, input, send, at_once)
}

const CHUNKING: &str = "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n";

fn decided(act: Option<Act>) -> Vec<(u16, Judgement)> {
    judgements(&[act.expect("an act")]).concat()
}

#[test]
fn small_content_follows_its_bdat_at_once_and_each_answer_counts() {
    for (answers, want) in [
        ("250 s\r\n250 a\r\n250 b\r\n250 taken\r\n", [(0, Judgement::Delivered), (1, Judgement::Delivered)]),
        ("250 s\r\n550 a\r\n250 b\r\n250 taken\r\n", [(0, Judgement::Bounce), (1, Judgement::Delivered)]),
        ("250 s\r\n550 a\r\n550 b\r\n503 nobody\r\n", [(0, Judgement::Bounce), (1, Judgement::Bounce)]),
        ("550 s\r\n503 a\r\n503 b\r\n503 what\r\n", [(0, Judgement::Bounce), (1, Judgement::Bounce)]),
        ("250 s\r\n250 a\r\n250 b\r\n554 spam\r\n", [(0, Judgement::Bounce), (1, Judgement::Bounce)]),
    ] {
        let (mut dialogue, mut input, mut send, at_once) = begun(manner(Tls::Disabled), CHUNKING, 10);
        assert!(at_once && send.ends_with(b"RCPT TO:<c@b.test>\r\nBDAT 10 LAST\r\n"));
        send.clear();
        dialogue.content_written();
        input.extend_from_slice(answers.as_bytes());
        assert_eq!(decided(dialogue.step(&mut input, &mut send)), want, "{answers}");
        assert!(dialogue.is_usable() && send.is_empty());
        let taken = want.iter().any(|(_, judgement)| *judgement == Judgement::Delivered);
        let (envelope, one) =
            (Envelope { sender: None, size: 1, eight_bit: false, smtputf8: false, wanted: None }, address("d@b.test"));
        dialogue.begin(&envelope, [(0, &one)].into_iter(), &mut send);
        assert_eq!(send.starts_with(b"RSET\r\n"), !taken, "after a refused BDAT the server may hold anything");
    }
}

#[test]
fn large_content_waits_for_a_recipient_that_is_taken() {
    let (mut dialogue, mut input, mut send, at_once) = begun(manner(Tls::Disabled), CHUNKING, 1 << 20);
    assert!(!at_once && send.ends_with(b"RCPT TO:<c@b.test>\r\n"));
    send.clear();
    input.extend_from_slice(b"250 s\r\n550 a\r\n250 b\r\n");
    assert_eq!(dialogue.step(&mut input, &mut send), Some(Act::SendContent));
    assert!(dialogue.is_chunked() && send == b"BDAT 1048576 LAST\r\n");
    dialogue.content_written();
    input.extend_from_slice(b"250 taken\r\n");
    let want = [(0, Judgement::Bounce), (1, Judgement::Delivered)];
    assert_eq!(decided(dialogue.step(&mut input, &mut send)), want);

    let (mut dialogue, mut input, mut send, _) = begun(manner(Tls::Disabled), CHUNKING, 1 << 20);
    input.extend_from_slice(b"250 s\r\n550 a\r\n450 b\r\n");
    let want = [(0, Judgement::Bounce), (1, Judgement::Retry { counts: true })];
    assert_eq!(decided(dialogue.step(&mut input, &mut send)), want, "no content for nobody");
}

#[test]
fn a_loss_behind_the_whole_content_is_uncertain_before_it_is_not() {
    for (is_written, answers, want) in [
        (true, "", Judgement::Uncertain),
        (true, "250 s\r\n250 a\r\n", Judgement::Uncertain),
        (true, "250 s\r\n250 a\r\n250 b\r\n", Judgement::Uncertain),
        (false, "250 s\r\n", Judgement::Retry { counts: true }),
    ] {
        let (mut dialogue, mut input, mut send, _) = begun(manner(Tls::Disabled), CHUNKING, 10);
        if is_written {
            dialogue.content_written();
        }
        input.extend_from_slice(answers.as_bytes());
        assert_eq!(dialogue.step(&mut input, &mut send), None);
        assert_eq!(decided(Some(dialogue.lost(&Lost::Reset))), [(0, want), (1, want)], "{answers}");
    }
}

#[test]
fn in_lmtp_each_taken_recipient_has_its_own_answer() {
    let lmtp = Manner { protocol: Protocol::Lmtp, ..manner(Tls::Disabled) };
    for (greeting, content) in [(EHLO, "354 go\r\n"), (CHUNKING, "")] {
        let (mut dialogue, mut input, mut send, at_once) = begun(lmtp, greeting, 10);
        assert!(!at_once);
        input.extend_from_slice(format!("250 s\r\n250 a\r\n250 b\r\n{content}").as_bytes());
        assert_eq!(dialogue.step(&mut input, &mut send), Some(Act::SendContent));
        dialogue.content_written();
        input.extend_from_slice(b"250 taken\r\n");
        assert_eq!(dialogue.step(&mut input, &mut send), None);
        input.extend_from_slice(b"552 5.2.2 full\r\n");
        let want = [(0, Judgement::Delivered), (1, Judgement::Bounce)];
        assert_eq!(decided(dialogue.step(&mut input, &mut send)), want);
        assert!(dialogue.is_usable());
    }
    let (mut dialogue, mut input, mut send, _) = begun(lmtp, EHLO, 10);
    input.extend_from_slice(b"250 s\r\n250 a\r\n250 b\r\n354 go\r\n");
    assert_eq!(dialogue.step(&mut input, &mut send), Some(Act::SendContent));
    dialogue.content_written();
    input.extend_from_slice(b"250 taken\r\n");
    assert_eq!(dialogue.step(&mut input, &mut send), None);
    let want = [(0, Judgement::Delivered), (1, Judgement::Uncertain)];
    assert_eq!(decided(Some(dialogue.lost(&Lost::Closed))), want);
}

#[test]
fn missing_or_mixed_answers_are_a_sign_against_pipelining_and_a_session_that_worked_is_one_for_it() {
    use crate::delivery::Habit::{BreaksPipelining, Pipelines};
    let retry = vec![(0, Judgement::Retry { counts: true }), (1, Judgement::Retry { counts: true })];
    let bounced = |rest: Judgement| vec![(0, Judgement::Bounce), (1, rest)];
    for (answers, lost, want, sign) in [
        ("", Lost::Reset, retry.clone(), Some((BreaksPipelining, false))),
        (
            "250 s\r\n550 a\r\n",
            Lost::Closed,
            bounced(Judgement::Retry { counts: true }),
            Some((BreaksPipelining, false)),
        ),
        ("250 s\r\n550 a\r\n503 b\r\n", Lost::Late(1), retry.clone(), Some((BreaksPipelining, false))),
        ("250 s\r\n550 a\r\n354 go\r\n", Lost::Late(1), retry.clone(), Some((BreaksPipelining, true))),
        ("250 s\r\n550 a\r\n550 b\r\n250 c\r\n", Lost::Late(1), retry, Some((BreaksPipelining, true))),
        ("250 s\r\n550 a\r\n421 bye\r\n", Lost::Late(1), bounced(Judgement::Retry { counts: true }), None),
        ("250 s\r\n550 a\r\n550 b\r\n503 c\r\n", Lost::Late(1), bounced(Judgement::Bounce), Some((Pipelines, true))),
    ] {
        let (mut dialogue, mut input, mut send, _) = begun(manner(Tls::Disabled), EHLO, 10);
        input.extend_from_slice(answers.as_bytes());
        let act = dialogue.step(&mut input, &mut send).unwrap_or_else(|| dialogue.lost(&lost));
        assert_eq!(decided(Some(act)), want, "{answers:?}");
        assert_eq!(dialogue.sign().map(|sign| (sign.habit, sign.is_certain)), sign, "{answers:?}");
    }
    let (mut dialogue, mut input, mut send, _) = begun(manner(Tls::Disabled), EHLO, 10);
    dialogue.trust_pipelining();
    input.extend_from_slice(b"250 s\r\n550 a\r\n");
    assert_eq!(dialogue.step(&mut input, &mut send), None);
    assert_eq!(decided(Some(dialogue.lost(&Lost::Late(1)))), bounced(Judgement::Retry { counts: true }));
    assert_eq!(dialogue.sign(), None, "a host that pipelines is not doubted for silence");
}

#[test]
fn a_reply_that_was_there_before_its_command_ends_the_session() {
    let mut dialogue = Dialogue::new("me.test", manner(Tls::Disabled));
    let mut send = Vec::new();
    let act = dialogue.step(&mut BytesMut::from(&b"220 a\r\n220 b\r\n"[..]), &mut send);
    assert!(matches!(act, Some(Act::Refused(_))) && !dialogue.is_usable(), "{act:?}");
    let (mut dialogue, mut input, mut send, _) = begun(manner(Tls::Disabled), CHUNKING, 10);
    dialogue.content_written();
    input.extend_from_slice(b"250 s\r\n250 a\r\n250 c\r\n250 taken\r\n550 more\r\n");
    let want = [(0, Judgement::Delivered), (1, Judgement::Delivered)];
    assert_eq!(decided(dialogue.step(&mut input, &mut send)), want);
    assert!(!dialogue.is_usable(), "what is there already would be taken for the answer to the next MAIL");
}
