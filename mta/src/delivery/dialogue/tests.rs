//! The dialogue against scripted replies, and against any bytes. Floor 2.

use proptest::prelude::*;

use super::*;

const EHLO: &str = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8bitmime\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address of the test")
}

/// Plays `server` in pieces of at most `piece` bytes; one transaction of two recipients whenever the
/// session is ready, up to three. Returns what was sent and what came of it.
fn play(server: &[u8], piece: usize, tls: Tls) -> (String, Vec<Act>) {
    let recipients = [address("a@b.test"), address("c@b.test")];
    let sender = address("s@a.test");
    let envelope = Envelope { sender: Some(&sender), size: 10, eight_bit: false, smtputf8: false };
    let mut dialogue = Dialogue::new("me.test", tls, true);
    let (mut input, mut send, mut acts, mut begun) = (BytesMut::new(), Vec::new(), Vec::new(), 0);
    let mut rest = server.chunks(piece.max(1));
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
            dialogue.begin(&envelope, (0u16..).zip(&recipients), &mut send);
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
    let mut dialogue = Dialogue::new("me.test", Tls::OpportunisticInsecure, true);
    let mut send = Vec::new();
    let before = b"220 x\r\n250-mx\r\n250-STARTTLS\r\n250-SMTPUTF8\r\n250 SIZE 9\r\n220 go\r\n";
    assert_eq!(dialogue.step(&mut BytesMut::from(&before[..]), &mut send), Some(Act::Upgrade));
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
