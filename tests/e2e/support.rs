//! What several stories do alike.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use egret_tests::harness::{Fleet, ask, eventually};
use egret_tests::ledger::{Comparison, Ledger, compare};
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::{self, Plan, Progress, Summary};
use serde_json::Value;
use tokio::task::JoinHandle;

/// The pause between two looks at an address that is in use, and how many there are.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;
/// How long an answer of the admin address may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sink at the fleet's destination, with a ledger.
pub async fn sink(fleet: &Fleet, behaviour: Behaviour) -> Sink {
    for _ in 0..LOOKS {
        let ledger = Ledger::create(&fleet.file("seen")).expect("a ledger");
        match Sink::start(&[fleet.sink], behaviour.clone(), Some(ledger), None).await {
            Ok(sink) => return sink,
            // One that was there before is leaving.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::time::sleep(LOOK).await,
            Err(error) => panic!("the sink does not listen: {error}"),
        }
    }
    panic!("{} stays in use", fleet.sink);
}

/// Sends what `plan` says, with a ledger.
pub async fn send(fleet: &Fleet, plan: Plan) -> Summary {
    let ledger = Arc::new(Ledger::create(&fleet.file("offered")).expect("a ledger"));
    let summary = source::run(plan, Some(ledger.clone()), Arc::new(Progress::default())).await.expect("sent");
    ledger.flush().expect("written");
    summary
}

/// A load that goes on while the story does.
pub struct Load {
    ledger: Arc<Ledger>,
    progress: Arc<Progress>,
    sending: JoinHandle<io::Result<Summary>>,
}

impl Load {
    /// Begins to send what `plan` says, with a ledger.
    pub fn start(fleet: &Fleet, plan: Plan) -> Self {
        let ledger = Arc::new(Ledger::create(&fleet.file("offered")).expect("a ledger"));
        let progress = Arc::new(Progress::default());
        let sending = tokio::spawn(source::run(plan, Some(ledger.clone()), progress.clone()));
        Self { ledger, progress, sending }
    }

    /// Whether everything is settled.
    pub fn is_over(&self) -> bool {
        self.sending.is_finished()
    }

    /// Waits until `more` messages are settled, or all.
    pub fn goes_on(&self, more: u64) {
        let goal = self.progress.settled() + more;
        eventually("acceptance", || match self.progress.settled() {
            n if n >= goal || self.is_over() => Ok(()),
            n => Err(format!("{n} of {goal} messages are settled")),
        });
    }

    /// Waits for its end.
    pub async fn end(self) -> Summary {
        let summary = self.sending.await.expect("no panic").expect("sent");
        self.ledger.flush().expect("written");
        summary
    }
}

/// Waits until nothing that was acknowledged is missing at the sink.
pub fn all_delivered(fleet: &Fleet, sink: &Sink) -> Comparison {
    eventually("delivery of all that was acknowledged", || {
        sink.flush().expect("written");
        let found = compare(&fleet.file("offered"), &fleet.file("seen")).map_err(|e| e.to_string())?;
        if found.lost == 0 { Ok(found) } else { Err(format!("{found:?}\n{}", fleet.mta.log())) }
    })
}

/// How many events `fits`.
pub fn count(fleet: &Fleet, fits: impl Fn(&Value) -> bool) -> usize {
    fleet.events().iter().filter(|event| fits(event)).count()
}

/// The destination is fast and willing: whatever is told as its failure was another's. Faults are those of `parties`.
pub fn nothing_counted(fleet: &Fleet, parties: &[&str]) {
    let told = fleet.events();
    let counted = told.iter().find(|e| e["type"] == "transient_failure" && e["uncertain"].is_null());
    assert!(counted.is_none(), "told as the destination's: {counted:?}");
    let is_known = |event: &Value| parties.iter().any(|party| event["party"] == *party);
    let blamed = told.iter().find(|e| e["type"] == "fault" && !is_known(e));
    assert!(blamed.is_none(), "blamed for what {parties:?} did: {blamed:?}");
}

/// Offers messages until a delivery of one of them `fits`. Sessions must not last long without work.
pub fn is_used_again(fleet: &Fleet, what: &str, fits: impl Fn(&Value) -> bool) {
    let before = fleet.events().len();
    eventually(what, || {
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        let found = fleet.events().iter().skip(before).any(|event| event["type"] == "delivery" && fits(event));
        if found { Ok(()) } else { Err(fleet.mta.log()) }
    });
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

/// Offers `content` as it is to several recipients; returns the answer that decided. `mail` is what follows
/// `MAIL FROM:`.
pub fn submit(to: SocketAddr, mail: &str, recipients: &[&str], content: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).expect("connects");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    answer(&mut reader);
    let envelope = ["EHLO test.example".to_owned(), format!("MAIL FROM:{mail}")].into_iter();
    let envelope = envelope.chain(recipients.iter().map(|to| format!("RCPT TO:<{to}>"))).chain(["DATA".to_owned()]);
    for command in envelope {
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("written");
        let said = answer(&mut reader);
        if !said.starts_with(['2', '3']) {
            return said;
        }
    }
    let mut stuffed = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        stuffed.extend_from_slice(if line.starts_with(b".") { b"." } else { b"" });
        stuffed.extend_from_slice(line);
    }
    stuffed.extend_from_slice(b".\r\n");
    stream.write_all(&stuffed).expect("written");
    answer(&mut reader)
}

/// Asks an admin address: status and answer.
pub fn get(from: SocketAddr, path: &str) -> (u16, String) {
    ask(from, &format!("GET {path}"), "", PATIENCE).expect("an answer")
}

/// Waits until `/readyz` of the MTA answers with `status`; returns what it says.
pub fn readiness(fleet: &Fleet, status: u16) -> String {
    eventually("a change of readiness", || match get(fleet.mta_admin, "/readyz") {
        (now, answer) if now == status => Ok(answer),
        (now, answer) => Err(format!("{now}: {answer}\n{}", fleet.mta.log())),
    })
}

/// How many messages a stopped MTA has in its spool, and what `egret-mta spool verify` tells of it.
pub fn verify(fleet: &Fleet) -> (u64, String) {
    let mut command = std::process::Command::new(egret_tests::harness::binary("egret-mta"));
    command.args(["spool", "verify", "--path"]).arg(fleet.file("spool"));
    let output = command.output().expect("runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = told.lines().last().unwrap_or_default();
    let count = last.split(' ').next().and_then(|n| n.parse().ok());
    let why = String::from_utf8_lossy(&output.stderr);
    (count.unwrap_or_else(|| panic!("no count: {told}{why}")), told)
}

/// Changes the configuration file.
pub fn edit(fleet: &Fleet, from: &str, to: &str) {
    let file = fleet.file("mta.toml");
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(text.contains(from), "{from} does not stand in {text}");
    std::fs::write(&file, text.replace(from, to)).expect("written");
}
