//! The load source: SMTP sessions that offer messages with an id each. Floor 1. Touches sockets and its ledger.
//! Always: an id is in the ledger only after the 250 to its final dot; an offer without an answer is
//! made again under the same id, so the MTA may hold it twice but the source never counts it twice.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::reply::read_code;
use crate::ledger::Ledger;

/// The header that carries a message's id.
pub const ID_HEADER: &str = "X-Egret-Load-Id";
/// The longest wait for an answer; a server that takes longer counts as gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a message is offered again.
const AGAIN: Duration = Duration::from_millis(100);

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub to: SocketAddr,
    /// Messages in all.
    pub count: usize,
    /// Bytes of a body, about.
    pub size: usize,
    /// Sessions at once.
    pub concurrency: usize,
    /// Recipient domains `d0.example` …, taken in turn.
    pub domains: usize,
    /// Messages before a session says QUIT.
    pub per_connection: usize,
    /// Recipients of a message, all in one domain.
    pub recipients: usize,
    /// Messages a second over all sessions; unlimited if absent.
    pub rate: Option<f64>,
    /// Whether 4xx answers, refused connections and dead sessions are tried again without end.
    pub keep_trying: bool,
    /// Reverse-path of every message.
    pub sender: String,
    /// What ids begin with, so that several runs differ.
    pub prefix: String,
}

impl Plan {
    /// 10 kB messages over ten sessions to a hundred domains.
    pub fn new(to: SocketAddr, count: usize) -> Self {
        Self {
            to,
            count,
            size: 10_000,
            concurrency: 10,
            domains: 100,
            per_connection: 100,
            recipients: 1,
            rate: None,
            keep_trying: false,
            sender: "source@load.example".to_owned(),
            prefix: "m".to_owned(),
        }
    }
}

/// What came of it. Counts are of messages.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Answered 250 after the final dot.
    pub accepted: u64,
    /// Answered otherwise and given up.
    pub refused: u64,
    /// Given up without an answer.
    pub failed: u64,
    /// Times that a message was offered; more than messages if some were offered again.
    pub offers: u64,
    /// From the start to the last answer.
    pub seconds: f64,
    /// Accepted a second.
    pub per_second: f64,
}

/// Counters that a progress display may read while [`run`] works.
#[derive(Debug, Default)]
pub struct Progress {
    next: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    offers: AtomicU64,
}

impl Progress {
    /// Messages that are settled: accepted, refused or failed.
    pub fn settled(&self) -> u64 {
        [&self.accepted, &self.refused, &self.failed].iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }
}

/// Sends what `plan` says.
///
/// # Errors
/// If the ledger cannot be written.
pub async fn run(plan: Plan, ledger: Option<Arc<Ledger>>, progress: Arc<Progress>) -> io::Result<Summary> {
    let start = Instant::now();
    let load = Arc::new(Load { body: body(plan.size), plan, ledger, progress, start });
    let mut workers = JoinSet::new();
    for _ in 0..load.plan.concurrency.max(1) {
        let load = load.clone();
        workers.spawn(async move { Worker { load, session: None, buffer: Vec::new() }.work().await });
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    if let Some(ledger) = &load.ledger {
        ledger.flush()?;
    }
    Ok(load.summary())
}

struct Load {
    plan: Plan,
    body: Vec<u8>,
    ledger: Option<Arc<Ledger>>,
    progress: Arc<Progress>,
    start: Instant,
}

impl Load {
    fn summary(&self) -> Summary {
        let seconds = self.start.elapsed().as_secs_f64();
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let accepted = read(&self.progress.accepted);
        Summary {
            accepted,
            refused: read(&self.progress.refused),
            failed: read(&self.progress.failed),
            offers: read(&self.progress.offers),
            seconds,
            per_second: accepted as f64 / seconds.max(f64::MIN_POSITIVE),
        }
    }

    fn recipient(&self, number: usize, nth: usize) -> String {
        format!("u{nth}@d{}.example", number % self.plan.domains.max(1))
    }
}

/// Lines of 72 letters: no dot at a line's start, so nothing needs stuffing.
fn body(size: usize) -> Vec<u8> {
    let line = [&[b'x'; 72][..], b"\r\n"].concat();
    let mut body = line.repeat(size.div_ceil(line.len()));
    body.extend_from_slice(b".\r\n");
    body
}

struct Session {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    sent: usize,
}

impl Session {
    async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut session = Self { stream: BufReader::new(stream), line: Vec::new(), sent: 0 };
        session.expect(220).await?;
        session.stream.write_all(b"EHLO source.load.example\r\n").await?;
        session.expect(250).await?;
        Ok(session)
    }

    async fn code(&mut self) -> io::Result<u16> {
        read_code(&mut self.stream, &mut self.line).await
    }

    async fn expect(&mut self, wanted: u16) -> io::Result<()> {
        let code = self.code().await?;
        if code == wanted { Ok(()) } else { Err(io::Error::other(format!("{wanted} expected, {code} received"))) }
    }

    async fn quit(mut self) {
        // The answer is of no interest, but a close before it would be rude.
        if self.stream.write_all(b"QUIT\r\n").await.is_ok() {
            let _ = self.code().await;
        }
    }
}

/// What the server said to one offer.
struct Answer {
    code: u16,
    /// For each recipient, whether RCPT was accepted.
    taken: Vec<bool>,
}

struct Worker {
    load: Arc<Load>,
    session: Option<Session>,
    buffer: Vec<u8>,
}

impl Worker {
    async fn work(mut self) -> io::Result<()> {
        let load = self.load.clone();
        loop {
            let number = load.progress.next.fetch_add(1, Ordering::Relaxed);
            if number >= load.plan.count {
                break;
            }
            if let Some(rate) = load.plan.rate {
                let due = load.start + Duration::from_secs_f64(number as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
            }
            self.settle(number).await?;
        }
        if let Some(session) = self.session.take() {
            session.quit().await;
        }
        Ok(())
    }

    /// Offers message `number` until it is settled.
    async fn settle(&mut self, number: usize) -> io::Result<()> {
        let load = self.load.clone();
        loop {
            let offer = tokio::time::timeout(ANSWER_TIMEOUT, self.offer(number)).await;
            let counter = match offer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(answer) if answer.code == 250 => {
                    self.note(number, &answer.taken)?;
                    &load.progress.accepted
                }
                Ok(answer) if answer.code >= 500 || !load.plan.keep_trying => &load.progress.refused,
                Err(_) if !load.plan.keep_trying => {
                    self.session = None;
                    &load.progress.failed
                }
                other => {
                    if other.is_err() {
                        self.session = None;
                    }
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
    }

    fn note(&self, number: usize, taken: &[bool]) -> io::Result<()> {
        let Some(ledger) = &self.load.ledger else { return Ok(()) };
        let id = format!("{}-{number}", self.load.plan.prefix);
        for (nth, _) in taken.iter().enumerate().filter(|(_, taken)| **taken) {
            ledger.note(&id, &self.load.recipient(number, nth))?;
        }
        Ok(())
    }

    async fn offer(&mut self, number: usize) -> io::Result<Answer> {
        self.refresh().await?;
        let load = self.load.clone();
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::open(load.plan.to).await?),
        };
        session.sent += 1;
        load.progress.offers.fetch_add(1, Ordering::Relaxed);
        write_envelope(&load, number, &mut self.buffer)?;
        session.stream.write_all(&self.buffer).await?;
        let mail = session.code().await?;
        let mut taken = Vec::with_capacity(load.plan.recipients);
        let mut refusal = mail;
        for _ in 0..load.plan.recipients {
            let code = session.code().await?;
            taken.push(code == 250);
            refusal = if mail == 250 { code } else { mail };
        }
        let data = session.code().await?;
        if data != 354 {
            let code = if refusal == 250 { data } else { refusal };
            if code == 421 {
                self.session = None;
            } else {
                session.stream.write_all(b"RSET\r\n").await?;
                session.code().await?;
            }
            return Ok(Answer { code, taken });
        }
        write_content(&load, number, &mut self.buffer)?;
        session.stream.write_all(&self.buffer).await?;
        let code = session.code().await?;
        Ok(Answer { code, taken })
    }

    async fn refresh(&mut self) -> io::Result<()> {
        if self.session.as_ref().is_some_and(|s| s.sent >= self.load.plan.per_connection)
            && let Some(session) = self.session.take()
        {
            session.quit().await;
        }
        Ok(())
    }
}

/// MAIL, RCPT and DATA in one write (RFC 2920).
fn write_envelope(load: &Load, number: usize, out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    write!(out, "MAIL FROM:<{}>\r\n", load.plan.sender)?;
    for nth in 0..load.plan.recipients {
        write!(out, "RCPT TO:<{}>\r\n", load.recipient(number, nth))?;
    }
    out.extend_from_slice(b"DATA\r\n");
    Ok(())
}

fn write_content(load: &Load, number: usize, out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    let prefix = &load.plan.prefix;
    write!(out, "{ID_HEADER}: {prefix}-{number}\r\nFrom: <source@load.example>\r\nSubject: load {number}\r\n")?;
    write!(out, "Message-ID: <{prefix}-{number}@load.example>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n")?;
    out.extend_from_slice(&load.body);
    Ok(())
}
