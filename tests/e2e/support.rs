//! What several stories do alike.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use egret_tests::harness::{Fleet, eventually};
use egret_tests::ledger::{Comparison, Ledger, compare};
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::{self, Plan, Progress, Summary};

/// A sink at the fleet's destination, with a ledger.
pub async fn sink(fleet: &Fleet, behaviour: Behaviour) -> Sink {
    let ledger = Ledger::create(&fleet.file("seen")).expect("a ledger");
    Sink::start(&[fleet.sink], behaviour, Some(ledger), None).await.expect("the sink listens")
}

/// Sends what `plan` says, with a ledger.
pub async fn send(fleet: &Fleet, plan: Plan) -> Summary {
    let ledger = Arc::new(Ledger::create(&fleet.file("offered")).expect("a ledger"));
    let summary = source::run(plan, Some(ledger.clone()), Arc::new(Progress::default())).await.expect("sent");
    ledger.flush().expect("written");
    summary
}

/// Waits until nothing that was acknowledged is missing at the sink.
pub fn all_delivered(fleet: &Fleet, sink: &Sink) -> Comparison {
    eventually("delivery of all that was acknowledged", || {
        sink.flush().expect("written");
        let found = compare(&fleet.file("offered"), &fleet.file("seen")).map_err(|e| e.to_string())?;
        if found.lost == 0 { Ok(found) } else { Err(format!("{found:?}\n{}", fleet.mta.log())) }
    })
}

/// Speaks SMTP line by line and returns the last line of each answer, the banner first.
pub fn smtp(to: SocketAddr, lines: &[&str]) -> Vec<String> {
    let stream = TcpStream::connect(to).expect("connects");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut answers = vec![answer(&mut reader)];
    for line in lines {
        (&stream).write_all(format!("{line}\r\n").as_bytes()).expect("written");
        answers.push(answer(&mut reader));
    }
    answers
}

fn answer(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).expect("readable") == 0 || line.as_bytes().get(3) != Some(&b'-') {
            return line.trim_end().to_owned();
        }
    }
}

/// Offers one message; returns the answer to it.
pub fn offer(to: SocketAddr, sender: &str, recipient: &str) -> String {
    let (mail, rcpt) = (format!("MAIL FROM:<{sender}>"), format!("RCPT TO:<{recipient}>"));
    let answers = smtp(to, &["EHLO test.example", &mail, &rcpt, "DATA", "Subject: hello\r\n\r\nworld\r\n.", "QUIT"]);
    answers[5].clone()
}
