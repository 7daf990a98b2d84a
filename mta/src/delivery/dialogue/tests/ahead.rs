//! Transactions behind one another against a server that does one or two things wrong: each recipient has one end, what
//! is called delivered was taken, and what is called anything but uncertain and delivered was not. Floor 2.

use std::collections::VecDeque;

use super::*;

const OFFERS: &str = "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
/// Transactions of a session.
const MESSAGES: usize = 9;
/// Those in which the server does nothing wrong.
const PROOFS: usize = 2;

/// What a server does with one of its answers.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Leaves it out.
    Drop,
    /// Says it twice.
    Twice,
    /// Refuses, and what was asked is not done. Keeps what it has of the transaction until RSET.
    Refuse(u16),
    /// Says 421, and leaves.
    Farewell,
    /// Leaves instead.
    Close,
    /// Leaves behind it.
    CloseBehind,
}

/// A strict server, which reads commands from bytes.
struct Server {
    input: Vec<u8>,
    faults: Vec<(usize, Fault)>,
    answers: usize,
    /// The message that was begun last.
    message: usize,
    has_sender: bool,
    /// Each by its message and its number there.
    recipients: Vec<(usize, u16)>,
    /// For whom it has taken the content of which message.
    taken: Vec<(usize, Vec<(usize, u16)>)>,
    has_refused_reset: bool,
    has_left: bool,
}

impl Server {
    /// It says one thing twice or not at all, and refuses another.
    fn is_blurred(&self) -> bool {
        let does = |wanted: fn(&Fault) -> bool| self.faults.iter().any(|(_, fault)| wanted(fault));
        does(|fault| matches!(fault, Fault::Twice | Fault::Drop))
            && does(|fault| matches!(fault, Fault::Refuse(_) | Fault::Farewell))
    }

    /// Reads, and answers.
    fn hear(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        self.input.extend_from_slice(bytes);
        while !self.has_left
            && let Some(end) = self.input.iter().position(|byte| *byte == b'\n')
        {
            let line = String::from_utf8_lossy(&self.input[..end]).trim_end().to_owned();
            let content = line.strip_prefix("BDAT ").and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0);
            if self.input.len() < end + 1 + content {
                return;
            }
            let content = self.input.drain(..end + 1 + content).skip(end + 1).collect::<Vec<u8>>();
            self.command(&line, number(&String::from_utf8_lossy(&content), "<c"), output);
        }
    }

    fn command(&mut self, line: &str, content: Option<usize>, output: &mut Vec<u8>) {
        self.message = number(line, "<m").unwrap_or(self.message);
        let fault = self.faults.iter().find(|(place, _)| self.message >= PROOFS && *place == self.answers);
        let fault = fault.map(|(_, fault)| *fault);
        self.answers += usize::from(self.message >= PROOFS);
        let answer = match fault {
            // With several recipients it would be a lie: it leaves, or it does not.
            Some(Fault::Refuse(421)) if has_two(self.message) => "450 5.0.0 no".to_owned(),
            Some(Fault::Refuse(code)) => format!("{code} 5.0.0 no"),
            Some(Fault::Farewell | Fault::Close) => "421 4.3.2 leaving".to_owned(),
            _ => self.act(line, content),
        };
        let say = |output: &mut Vec<u8>| output.extend_from_slice(format!("{answer}\r\n").as_bytes());
        match fault {
            Some(Fault::Drop | Fault::Close) => {}
            Some(Fault::Twice) => {
                say(output);
                say(output);
            }
            _ => say(output),
        }
        self.has_refused_reset |= line == "RSET" && matches!(fault, Some(Fault::Refuse(_)));
        self.has_left = matches!(fault, Some(Fault::Farewell | Fault::Close | Fault::CloseBehind));
    }

    fn act(&mut self, line: &str, content: Option<usize>) -> String {
        match line.split(' ').next().unwrap_or_default() {
            "RSET" => {
                (self.has_sender, self.recipients) = (false, Vec::new());
                "250 2.0.0 Ok".to_owned()
            }
            "MAIL" if self.has_sender => "503 5.5.1 nested".to_owned(),
            "MAIL" => {
                self.has_sender = true;
                "250 2.1.0 Ok".to_owned()
            }
            "RCPT" if !self.has_sender => "503 5.5.1 no sender".to_owned(),
            "RCPT" => {
                let named = number(line, "<r").zip(number(line, "+").map(|n| n as u16));
                self.recipients.extend(named);
                "250 2.1.5 Ok".to_owned()
            }
            "BDAT" if self.recipients.is_empty() => "503 5.5.1 nobody".to_owned(),
            "BDAT" => {
                self.has_sender = false;
                self.taken.push((content.expect("content"), std::mem::take(&mut self.recipients)));
                "250 2.0.0 Ok: queued as 1A".to_owned()
            }
            other => panic!("a command {other:?} that nobody should write: out of step"),
        }
    }
}

fn number(line: &str, mark: &str) -> Option<usize> {
    line.split_once(mark).and_then(|(_, rest)| rest.split(['@', '+', '>']).next()?.parse().ok())
}

/// Now and then a message has two recipients; behind those nothing follows.
fn has_two(message: usize) -> bool {
    message % 4 == 3
}

/// A client that sends as many ahead as it may, `depth` at most.
struct Client {
    dialogue: Dialogue,
    input: BytesMut,
    send: Vec<u8>,
    /// Messages on their way, in order.
    flying: VecDeque<usize>,
    next: usize,
    ends: Vec<(usize, Finished)>,
}

impl Client {
    fn begin(&mut self, depth: usize) {
        if self.flying.is_empty() && self.next < MESSAGES && self.dialogue.is_usable() && self.input.is_empty() {
            self.write(false);
        }
        while self.next < MESSAGES
            && self.flying.len() <= depth
            && !self.flying.is_empty()
            && self.dialogue.may_follow()
        {
            self.write(true);
        }
    }

    fn write(&mut self, behind: bool) {
        let sender = address(&format!("m{}@a.test", self.next));
        let recipients = [0, 1].map(|n| address(&format!("r{}+{n}@b.test", self.next)));
        let most = if has_two(self.next) { 2 } else { 1 };
        let recipients = || (0u16..).zip(&recipients).take(most);
        let envelope = Envelope { sender: Some(&sender), size: 9, eight_bit: false, smtputf8: false, wanted: None };
        if behind {
            self.dialogue.follow(&envelope, recipients(), &mut self.send);
        } else {
            assert!(self.dialogue.begin(&envelope, recipients(), &mut self.send));
        }
        self.send.extend_from_slice(format!("<c{}>.....", self.next).as_bytes());
        self.flying.push_back(self.next);
        self.next += 1;
    }

    /// Reads what has come. The end of a transaction is the turn of the next.
    fn read(&mut self) {
        while let Some(act) = self.dialogue.step(&mut self.input, &mut self.send) {
            self.finished(act);
            if self.flying.is_empty() {
                return;
            }
        }
    }

    fn finished(&mut self, act: Act) {
        let Act::Finished(finished) = act else { panic!("{act:?} within a transaction") };
        self.ends.push((self.flying.pop_front().expect("under way"), finished));
        self.dialogue.advance();
    }

    /// No more comes.
    fn lose(&mut self, lost: &Lost) {
        if !self.flying.is_empty() {
            let act = self.dialogue.lost(lost);
            self.finished(act);
        }
        while !self.flying.is_empty() {
            self.read();
        }
    }
}

/// A session. `cuts` says of each write whether all of it comes over.
fn session(depth: usize, faults: Vec<(usize, Fault)>, piece: usize, cut: usize) -> (Client, Server) {
    let most_ahead = u32::try_from(depth).expect("few");
    let mut dialogue = Dialogue::new("me.test", Manner { most_ahead, ..manner(Tls::Disabled) });
    let (mut input, mut send) = (BytesMut::new(), Vec::new());
    for text in ["220 x\r\n", OFFERS] {
        input.extend_from_slice(text.as_bytes());
        dialogue.step(&mut input, &mut send);
    }
    send.clear();
    let (flying, ends) = (VecDeque::new(), Vec::new());
    let mut client = Client { dialogue, input, send, flying, next: 0, ends };
    let mut server = Server {
        input: Vec::new(),
        faults,
        answers: 0,
        message: 0,
        has_sender: false,
        recipients: Vec::new(),
        taken: Vec::new(),
        has_refused_reset: false,
        has_left: false,
    };
    let mut writes = 0;
    loop {
        let before = client.flying.len();
        client.begin(depth);
        if client.flying.is_empty() {
            return (client, server);
        }
        let mut output = Vec::new();
        let written = std::mem::take(&mut client.send);
        writes += usize::from(!written.is_empty());
        if writes == cut && !written.is_empty() {
            // The connection breaks within the last content.
            server.hear(&written[..written.len() - 1], &mut output);
            for _ in before + 1..client.flying.len() {
                client.dialogue.content_written();
            }
            client.input.extend_from_slice(&output);
            client.read();
            client.lose(&Lost::Reset);
            return (client, server);
        }
        for _ in before..client.flying.len() {
            client.dialogue.content_written();
        }
        server.hear(&written, &mut output);
        if output.is_empty() {
            client.lose(if server.has_left { &Lost::Closed } else { &Lost::Late(1) });
        }
        for bytes in output.chunks(piece) {
            client.input.extend_from_slice(bytes);
            if !client.flying.is_empty() {
                client.read();
            }
        }
    }
}

fn check(client: &Client, server: &Server) -> Result<(), TestCaseError> {
    let mut seen: Vec<usize> = client.ends.iter().map(|(message, _)| *message).collect();
    seen.sort_unstable();
    prop_assert_eq!(seen, (0..client.next).collect::<Vec<_>>(), "each has one end");
    for (message, recipients) in &server.taken {
        let is_own = recipients.iter().all(|(of, _)| of == message);
        prop_assert!(is_own || server.has_refused_reset, "{message} came to another's recipients: {recipients:?}");
    }
    for (message, finished) in &client.ends {
        let taken = server.taken.iter().filter(|(of, _)| of == message).flat_map(|t| t.1.clone());
        let taken: Vec<u16> = taken.filter(|(of, _)| of == message).map(|(_, recipient)| recipient).collect();
        let mut decided: Vec<u16> = finished.decided.iter().map(|d| d.recipient).collect();
        decided.sort_unstable();
        let all = if has_two(*message) { vec![0, 1] } else { vec![0] };
        prop_assert_eq!(decided, all, "each recipient is decided once");
        for Decided { recipient, judgement, response } in &finished.decided {
            let is_taken = taken.contains(recipient);
            match judgement {
                Judgement::Delivered => prop_assert!(is_taken, "{message}: {recipient} was not taken"),
                Judgement::Uncertain => prop_assert!(!finished.is_untouched),
                // A refusal that stands for an answer which is missing, or follows one that came twice, cannot be told
                // from that answer. Such a server gets the message again, as without anything ahead.
                _ if server.is_blurred() => {}
                other => prop_assert!(!is_taken, "{message}: {recipient} was taken, but {other:?}: {response}"),
            }
        }
    }
    Ok(())
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => Just(Fault::Drop),
        2 => Just(Fault::Twice),
        3 => prop::sample::select(vec![421u16, 450, 452, 500, 503, 550, 354]).prop_map(Fault::Refuse),
        1 => Just(Fault::Farewell),
        1 => Just(Fault::Close),
        1 => Just(Fault::CloseBehind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn whatever_goes_wrong_nothing_is_called_what_it_is_not(
        depth in 1usize..4,
        faults in prop::collection::vec((0usize..30, fault()), 0..3),
        piece in 1usize..200,
        cut in 3usize..20,
    ) {
        let (client, server) = session(depth, faults, piece, cut);
        check(&client, &server)?;
    }
}

#[test]
fn a_server_that_has_shown_how_it_answers_gets_transactions_behind_one_another_with_a_reset_between() {
    let (client, server) = session(2, Vec::new(), 1_000, usize::MAX);
    assert_eq!(server.taken.len(), MESSAGES);
    assert!(client.ends.iter().all(|(_, finished)| finished.decided[0].judgement == Judgement::Delivered));
    assert!(client.dialogue.is_usable());
}
