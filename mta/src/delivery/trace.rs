//! Live sessions for an operator's eyes: who watches, and what is told to them, line by line.
//! Floor 2. Touches no socket: lines go into bounded channels.
//! Always: where nobody watches, a session pays one look at a counter for each read and write; no session
//! waits for a watcher, who is told how many lines were missed; content is shown only to who asked for it,
//! secrets to nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use egret_shared::clock::{Clock, UnixMs};
use egret_shared::text::Line;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::message::{MessageId, QueueName, Ticket};

/// Lines that may wait for one watcher.
const MAX_WAITING: usize = 4_096;
/// Watchers at a time.
const MAX_WATCHERS: usize = 16;
/// Bytes that are shown of a line.
const SHOWN_BYTES: usize = 1_000;

/// What is watched: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// While a message of this scheduled queue is carried.
    pub queue: Option<String>,
    /// From this source.
    pub source: Option<String>,
    /// To this domain, site, host or address.
    pub to: Option<String>,
    /// Show the content of messages, too.
    pub content: bool,
}

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An address is dialed.
    Dial,
    /// The connection is there.
    Connected,
    /// It failed, by whose fault.
    Fault,
    /// A line to the destination.
    Sent,
    /// A line of the destination.
    Received,
    /// The handshake is done, or has failed.
    Tls,
    /// Content of a message.
    Content,
    /// The session is over.
    End,
    /// The watcher was too slow.
    Missed,
}

/// One line of a trace.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    time_ms: UnixMs,
    session: u64,
    source: &'a str,
    site: &'a str,
    host: &'a str,
    address: Option<SocketAddr>,
    queue: &'a str,
    id: Option<MessageId>,
    what: What,
    text: &'a str,
}

/// Knows who watches. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many watch: looked at without the lock.
    watching: AtomicUsize,
    watchers: Mutex<Vec<Watcher>>,
    last: AtomicU64,
}

struct Watcher {
    number: u64,
    filter: Filter,
    lines: mpsc::Sender<Bytes>,
    missed: u64,
}

/// There are as many watchers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WATCHERS} traces run already, the most that there may be; end one first")]
pub struct TooMany;

/// The lines of one watcher, each with its line end; dropping it ends the watch.
pub struct Watch {
    number: u64,
    lines: mpsc::Receiver<Bytes>,
    tracer: Tracer,
}

impl Tracer {
    /// Begins a watch.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn watch(&self, filter: Filter) -> Result<Watch, TooMany> {
        let mut watchers = self.0.watchers.lock();
        if watchers.len() >= MAX_WATCHERS {
            return Err(TooMany);
        }
        let (sender, lines) = mpsc::channel(MAX_WAITING);
        let number = self.0.last.fetch_add(1, Ordering::Relaxed);
        watchers.push(Watcher { number, filter, lines: sender, missed: 0 });
        self.0.watching.store(watchers.len(), Ordering::Relaxed);
        Ok(Watch { number, lines, tracer: self.clone() })
    }

    fn is_watched(&self) -> bool {
        self.0.watching.load(Ordering::Relaxed) > 0
    }
}

impl Watch {
    /// The next line. It never ends by itself.
    pub fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.lines.poll_recv(cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.tracer.0.watchers.lock();
        watchers.retain(|watcher| watcher.number != self.number);
        self.tracer.0.watching.store(watchers.len(), Ordering::Relaxed);
    }
}

impl Watcher {
    fn tell(&mut self, line: &Bytes) {
        if self.missed > 0 {
            let told = format!("{{\"what\":\"missed\",\"text\":\"{} lines\"}}\n", self.missed);
            if self.lines.try_send(told.into()).is_err() {
                self.missed += 1;
                return;
            }
            self.missed = 0;
        }
        self.missed += u64::from(self.lines.try_send(line.clone()).is_err());
    }
}

/// One session, as it is shown to watchers.
#[derive(Clone)]
pub struct Tap {
    tracer: Tracer,
    clock: Clock,
    session: u64,
    source: Arc<str>,
    site: Arc<str>,
    host: Arc<str>,
    address: Option<SocketAddr>,
    queue: Option<QueueName>,
    id: Option<MessageId>,
    /// What came of a line that is not whole yet.
    heard: Vec<u8>,
}

impl Tap {
    /// A session's.
    pub fn new(tracer: &Tracer, clock: &Clock, session: u64, source: &Arc<str>, site: &Arc<str>) -> Self {
        Self {
            tracer: tracer.clone(),
            clock: clock.clone(),
            session,
            source: source.clone(),
            site: site.clone(),
            host: Arc::default(),
            address: None,
            queue: None,
            id: None,
            heard: Vec::new(),
        }
    }

    /// The same session towards one of the site's addresses.
    #[must_use]
    pub fn towards(&self, host: &Arc<str>, address: SocketAddr) -> Self {
        Self { host: host.clone(), address: Some(address), ..self.clone() }
    }

    /// What it carries now.
    pub fn carry(&mut self, ticket: &Ticket) {
        self.queue = Some(ticket.queue.clone());
        self.id = Some(ticket.id);
    }

    /// Tells one thing, whose words are made only if somebody watches.
    pub fn tell<T: AsRef<str>>(&self, what: What, text: impl FnOnce() -> T) {
        if self.tracer.is_watched() {
            self.show(what, Line::sanitized(text().as_ref().as_bytes()).as_str());
        }
    }

    /// What is written to the destination; of what holds secrets only its first word is shown.
    pub fn sent(&self, bytes: &[u8], is_secret: bool) {
        if !self.tracer.is_watched() {
            return;
        }
        for line in lines(bytes) {
            let shown = match line.split(|b| *b == b' ').next() {
                Some(word) if is_secret && word.eq_ignore_ascii_case(b"AUTH") => "AUTH (hidden)".to_owned(),
                _ if is_secret => "(hidden)".to_owned(),
                _ => clipped(line),
            };
            self.show(What::Sent, &shown);
        }
    }

    /// What was read from the destination, be it in the middle of a line.
    pub fn heard(&mut self, bytes: &[u8]) {
        if !self.tracer.is_watched() {
            return self.heard.clear();
        }
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.keep(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.heard);
            self.show(What::Received, &clipped(line.strip_suffix(b"\r").unwrap_or(&line)));
        }
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = (2 * SHOWN_BYTES).saturating_sub(self.heard.len());
        self.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Content, in the pieces in which it is written: its size for all, its lines for who asked for them.
    pub fn content(&self, pieces: &[&[u8]]) {
        if !self.tracer.is_watched() {
            return;
        }
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.show_to(What::Content, &format!("{bytes} bytes"), |filter| !filter.content);
        if self.tracer.0.watchers.lock().iter().any(|watcher| watcher.filter.content && self.fits(&watcher.filter)) {
            for line in lines(&pieces.concat()) {
                self.show_to(What::Content, &clipped(line), |filter| filter.content);
            }
        }
    }

    fn show(&self, what: What, text: &str) {
        self.show_to(what, text, |_| true);
    }

    fn show_to(&self, what: What, text: &str, wants: impl Fn(&Filter) -> bool) {
        let mut watchers = self.tracer.0.watchers.lock();
        let mut line = None;
        for watcher in watchers.iter_mut().filter(|w| wants(&w.filter) && self.fits(&w.filter)) {
            watcher.tell(line.get_or_insert_with(|| self.line(what, text)));
        }
    }

    fn line(&self, what: What, text: &str) -> Bytes {
        let shown = Shown {
            time_ms: self.clock.wall(),
            session: self.session,
            source: &self.source,
            site: &self.site,
            host: &self.host,
            address: self.address,
            queue: self.queue.as_ref().map_or("", QueueName::as_str),
            id: self.id,
            what,
            text,
        };
        let mut line = serde_json::to_vec(&shown).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }

    fn fits(&self, filter: &Filter) -> bool {
        let is_there = |to: &String| {
            let domain = self.queue.as_ref().map_or("", QueueName::domain);
            let names = [domain, &*self.site, &*self.host];
            names.iter().any(|name| name.eq_ignore_ascii_case(to))
                || self.address.is_some_and(|at| to.parse() == Ok(at.ip()) || to.parse() == Ok(at))
        };
        filter.source.as_deref().is_none_or(|source| source == &*self.source)
            && filter.queue.as_deref().is_none_or(|queue| self.queue.as_ref().is_some_and(|q| q.as_str() == queue))
            && filter.to.as_ref().is_none_or(is_there)
    }
}

/// The lines of whole commands or content, without their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn clipped(line: &[u8]) -> String {
    let shown = Line::sanitized(&line[..line.len().min(SHOWN_BYTES)]);
    let more = if line.len() > SHOWN_BYTES { " …" } else { "" };
    format!("{shown}{more}")
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use serde_json::Value;

    use super::*;

    fn tap(tracer: &Tracer) -> Tap {
        let tap = Tap::new(tracer, &Clock::moved(UnixMs(7)), 3, &"a1".into(), &"mx.b.test".into());
        let mut tap = tap.towards(&"mx.b.test".into(), ([192, 0, 2, 1], 25).into());
        tap.queue = Some(QueueName::new(None, Some("acme"), "b.test"));
        tap
    }

    fn said(watch: &mut Watch) -> Vec<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut found = Vec::new();
        while let Poll::Ready(Some(line)) = watch.poll_line(&mut cx) {
            let line: Value = serde_json::from_slice(&line).expect("JSON");
            found.push(format!("{} {}", line["what"].as_str().unwrap_or("?"), line["text"].as_str().unwrap_or("?")));
        }
        found
    }

    #[test]
    fn lines_are_whole_however_they_came() {
        let tracer = Tracer::default();
        let mut watch = tracer.watch(Filter::default()).expect("room");
        let mut tap = tap(&tracer);
        for piece in [&b"250-mx."[..], b"b.test\r", b"\n250 SI", b"ZE 10\r\n2"] {
            tap.heard(piece);
        }
        tap.sent(b"MAIL FROM:<a@b.c>\r\nDATA\r\n", false);
        let want = ["received 250-mx.b.test", "received 250 SIZE 10", "sent MAIL FROM:<a@b.c>", "sent DATA"];
        assert_eq!(said(&mut watch), want);
    }

    #[test]
    fn secrets_are_hidden_and_content_is_shown_on_request_only() {
        let tracer = Tracer::default();
        let mut plain = tracer.watch(Filter::default()).expect("room");
        let mut curious = tracer.watch(Filter { content: true, ..Filter::default() }).expect("room");
        let tap = tap(&tracer);
        tap.sent(b"AUTH PLAIN AHUAcA==\r\n", true);
        tap.sent(b"cGFzc3dvcmQ=\r\n", true);
        tap.content(&[b"Subject: x\r\n\r\n", b"..", b"body\r\n", b".\r\n"]);
        assert_eq!(said(&mut plain), ["sent AUTH (hidden)", "sent (hidden)", "content 25 bytes"]);
        let all = said(&mut curious).join("|");
        assert!(all.ends_with("content Subject: x|content |content ..body|content ."), "{all}");
    }

    #[test]
    fn a_watch_shows_what_fits_and_ends_when_it_is_dropped() {
        let tracer = Tracer::default();
        let filters = [
            (Filter { source: Some("a1".into()), ..Filter::default() }, 1),
            (Filter { source: Some("a2".into()), ..Filter::default() }, 0),
            (Filter { queue: Some("acme@b.test".into()), ..Filter::default() }, 1),
            (Filter { queue: Some("@b.test".into()), ..Filter::default() }, 0),
            (Filter { to: Some("B.test".into()), ..Filter::default() }, 1),
            (Filter { to: Some("192.0.2.1".into()), ..Filter::default() }, 1),
            (Filter { to: Some("192.0.2.1:25".into()), ..Filter::default() }, 1),
            (Filter { to: Some("c.test".into()), ..Filter::default() }, 0),
        ];
        for (filter, want) in filters {
            let mut watch = tracer.watch(filter.clone()).expect("room");
            tap(&tracer).tell(What::Dial, || "x");
            assert_eq!(said(&mut watch).len(), want, "{filter:?}");
        }
        assert!(!tracer.is_watched());
        tap(&tracer).tell(What::Dial, || -> String { panic!("nobody watches") });
    }

    #[test]
    fn a_slow_watcher_learns_what_it_missed_and_there_are_not_too_many() {
        let tracer = Tracer::default();
        let mut watch = tracer.watch(Filter::default()).expect("room");
        let tap = tap(&tracer);
        for _ in 0..MAX_WAITING + 5 {
            tap.tell(What::Dial, || "x");
        }
        assert_eq!(said(&mut watch).len(), MAX_WAITING);
        tap.tell(What::Dial, || "y");
        assert_eq!(said(&mut watch), ["missed 5 lines", "dial y"]);
        let others: Vec<_> = (1..MAX_WATCHERS).map(|_| tracer.watch(Filter::default())).collect();
        assert!(others.iter().all(Result::is_ok) && tracer.watch(Filter::default()).is_err());
    }
}
