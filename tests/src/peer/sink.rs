//! The counting sink: an SMTP server that remembers what it took and fails on demand. Floor 1.
//! Touches its sockets, its ledger and the directory of kept messages.
//! Always: a delivery is counted before the 250 to its final dot is written; a chosen failure
//! depends on the id alone, so the same run fails the same messages.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::{Clock, UnixMs};
use egret_shared::net::socket::{Share, listen as listen_at};
use memchr::memmem;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::counts::{Counts, Kept, Stats};
use super::source::ID_HEADER;
use crate::ledger::Ledger;

/// The longest command line taken.
const MAX_COMMAND_BYTES: usize = 4096;
/// The longest message taken.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Room for one read: several messages of the benchmarks, so that the sink is not what is measured.
const READ_BYTES: usize = 64 << 10;
/// How often the ledger is handed to the kernel.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// How the sink behaves. The default takes everything at once.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// Share of ids whose first attempt is answered 451.
    pub temp_fail: f64,
    /// Share of ids that are always answered 550.
    pub perm_fail: f64,
    /// Share of ids whose first attempt ends in a closed connection instead of an answer.
    pub drop: f64,
    /// The wait before the answer to the final dot.
    pub delay: Duration,
    /// Recipient domains whose RCPT gets this code.
    pub fail_domains: Vec<(String, u16)>,
    /// Whether CHUNKING is offered (RFC 3030).
    pub chunking: bool,
    /// Where every message is written to, a file each.
    pub keep: Option<PathBuf>,
}

/// A sink that runs; ends when dropped.
pub struct Sink {
    /// Where it listens, in the order asked for.
    pub addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    behaviour: Behaviour,
    counts: Mutex<Counts>,
    ledger: Option<Ledger>,
    tls: Option<TlsAcceptor>,
    clock: Clock,
}

impl Sink {
    /// Binds `listen` and serves.
    ///
    /// # Errors
    /// If an address cannot be bound; the text names it.
    #[expect(clippy::unused_async, reason = "sockets are made within a runtime; an await makes sure of one")]
    pub async fn start(
        listen: &[SocketAddr],
        behaviour: Behaviour,
        ledger: Option<Ledger>,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Self> {
        let counts = Mutex::new(Counts::default());
        let shared = Arc::new(Shared { behaviour, counts, ledger, tls, clock: Clock::system() });
        let mut sink = Self { addresses: Vec::new(), shared, tasks: JoinSet::new() };
        for address in listen {
            // With a backlog as long as a mail server's: a connection that it drops comes again after 1 s.
            let listener = listen_at(*address, Share::Alone)
                .and_then(TcpListener::from_std)
                .map_err(|e| io::Error::new(e.kind(), format!("{address} cannot be bound: {e}")))?;
            sink.addresses.push(listener.local_addr()?);
            sink.tasks.spawn(accept(listener, sink.shared.clone()));
        }
        let shared = sink.shared.clone();
        sink.tasks.spawn(async move {
            loop {
                tokio::time::sleep(FLUSH_INTERVAL).await;
                if let Err(error) = shared.flush() {
                    eprintln!("sink: the ledger cannot be written: {error}");
                }
            }
        });
        Ok(sink)
    }

    /// Also answers `GET /stats` and `GET /messages` on `address`; gives the address bound.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub async fn serve_admin(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = admin(stream, &shared).await;
            }
        });
        Ok(bound)
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.shared.counts.lock().stats()
    }

    /// The last messages taken, the oldest first.
    pub fn messages(&self) -> Vec<Kept> {
        self.shared.counts.lock().messages()
    }

    /// The most sessions that were open at once, and when each message was taken.
    pub fn pace(&self) -> (u64, Vec<UnixMs>) {
        self.shared.counts.lock().pace()
    }

    /// Hands the ledger to the kernel.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.shared.flush()
    }
}

impl Shared {
    fn flush(&self) -> io::Result<()> {
        self.ledger.as_ref().map_or(Ok(()), Ledger::flush)
    }
}

async fn admin(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut request = vec![0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut request)).await??;
    let request = &request[..read];
    let body = if request.starts_with(b"GET /stats ") {
        serde_json::to_string(&shared.counts.lock().stats())?
    } else if request.starts_with(b"GET /messages ") {
        serde_json::to_string(&shared.counts.lock().messages())?
    } else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ";
    stream.write_all(format!("{head}{length}\r\n\r\n{body}").as_bytes()).await
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => match taken {
                Ok((stream, peer)) => { sessions.spawn(serve(stream, peer.ip(), shared.clone())); }
                // Out of descriptors: the next accept may succeed once a session has ended.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>) {
    shared.counts.lock().began();
    if !speak(stream, peer, shared.clone()).await {
        shared.counts.lock().ended();
    }
}

/// Returns whether the client said goodbye.
async fn speak(mut stream: TcpStream, peer: IpAddr, shared: Arc<Shared>) -> bool {
    // Every error here is the client's leave; what it delivered before is counted already.
    let _ = stream.set_nodelay(true);
    if stream.write_all(b"220 sink.example ESMTP\r\n").await.is_err() {
        return false;
    }
    let mut dialogue = Dialogue::new(peer, shared.clone(), false);
    if let Ok(End::StartTls) = dialogue.run(&mut stream).await
        && let Some(acceptor) = &shared.tls
        && let Ok(mut secured) = acceptor.accept(stream).await
    {
        dialogue = Dialogue::new(peer, shared.clone(), true);
        let _ = dialogue.run(&mut secured).await;
        let _ = secured.shutdown().await;
    }
    dialogue.has_quit
}

enum End {
    Closed,
    StartTls,
}

enum Next {
    Go,
    Data,
    /// So many bytes of content follow; whether they are the last.
    Chunk(usize, bool),
    End(End),
}

/// One session; commands come from `input`, answers are gathered in `output` and written when the
/// input is used up, which is what PIPELINING asks for (RFC 2920 section 3.2).
struct Dialogue {
    peer: IpAddr,
    shared: Arc<Shared>,
    secured: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    sender: Option<String>,
    recipients: Vec<String>,
    /// Content of earlier chunks.
    chunks: Vec<u8>,
    /// The client has said goodbye, and no longer counts as a session.
    has_quit: bool,
}

impl Dialogue {
    fn new(peer: IpAddr, shared: Arc<Shared>, secured: bool) -> Self {
        let (input, output) = (Vec::with_capacity(1 << 14), Vec::with_capacity(1 << 10));
        Self {
            peer,
            shared,
            secured,
            input,
            output,
            sender: None,
            recipients: Vec::new(),
            chunks: Vec::new(),
            has_quit: false,
        }
    }

    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<End> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.input) else {
                if self.input.len() > MAX_COMMAND_BYTES || !self.more(stream).await? {
                    return Ok(End::Closed);
                }
                continue;
            };
            let line: Vec<u8> = self.input.drain(..=end).collect();
            match self.command(String::from_utf8_lossy(&line).trim_end()) {
                Next::Go => {}
                Next::Data => {
                    if !self.data(stream).await? {
                        return self.leave(stream).await;
                    }
                }
                Next::Chunk(bytes, is_last) => {
                    if !self.chunk(stream, bytes, is_last).await? {
                        return self.leave(stream).await;
                    }
                }
                Next::End(end) => {
                    stream.write_all(&self.output).await?;
                    stream.flush().await?;
                    return Ok(end);
                }
            }
        }
    }

    /// Ends without the answer to the content, but with those to what was in front of it: messages that were taken
    /// before are known to be.
    async fn leave<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<End> {
        stream.write_all(&self.output).await?;
        stream.flush().await?;
        Ok(End::Closed)
    }

    /// Writes what is due and reads on; false at the end of the stream.
    async fn more<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<bool> {
        if !self.output.is_empty() {
            stream.write_all(&self.output).await?;
            stream.flush().await?;
            self.output.clear();
        }
        self.input.reserve(READ_BYTES);
        Ok(stream.read_buf(&mut self.input).await? > 0)
    }

    fn say(&mut self, reply: &str) -> Next {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        Next::Go
    }

    fn command(&mut self, line: &str) -> Next {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => {
                let tls = if self.shared.tls.is_some() && !self.secured { "250-STARTTLS\r\n" } else { "" };
                let words = "250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 67108864";
                let chunking = if self.shared.behaviour.chunking { "250-CHUNKING\r\n" } else { "" };
                self.say(&format!("250-sink.example\r\n250-PIPELINING\r\n{tls}{chunking}{words}"))
            }
            "MAIL" => {
                self.recipients.clear();
                self.sender = Some(path(rest));
                self.say("250 2.1.0 ok")
            }
            "RCPT" => self.rcpt(path(rest)),
            "DATA" if self.recipients.is_empty() => self.say("503 5.5.1 no valid recipients"),
            "DATA" => {
                self.say("354 go on");
                Next::Data
            }
            "BDAT" if self.shared.behaviour.chunking => {
                let (size, last) = rest.split_once(' ').unwrap_or((rest, ""));
                match size.parse() {
                    Ok(size) if size <= MAX_MESSAGE_BYTES => Next::Chunk(size, last.eq_ignore_ascii_case("LAST")),
                    _ => Next::End(End::Closed),
                }
            }
            "RSET" => {
                self.reset();
                self.say("250 2.0.0 ok")
            }
            "NOOP" => self.say("250 2.0.0 ok"),
            "STARTTLS" if self.shared.tls.is_some() && !self.secured => {
                self.say("220 2.0.0 go on");
                Next::End(End::StartTls)
            }
            "QUIT" => {
                // Over before it is said: who reads the answer may begin another at once.
                self.shared.counts.lock().ended();
                self.has_quit = true;
                self.say("221 2.0.0 bye");
                Next::End(End::Closed)
            }
            _ => self.say("500 5.5.2 command not known"),
        }
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.chunks.clear();
    }

    fn rcpt(&mut self, recipient: String) -> Next {
        if self.sender.is_none() {
            return self.say("503 5.5.1 MAIL first");
        }
        let domain = domain_of(&recipient);
        let failing = &self.shared.behaviour.fail_domains;
        if let Some((_, code)) = failing.iter().find(|(d, _)| d.eq_ignore_ascii_case(domain)) {
            let reply = format!("{code} {}.1.1 this domain fails by order", code / 100);
            self.shared.counts.lock().refused += 1;
            return self.say(&reply);
        }
        self.recipients.push(recipient);
        self.say("250 2.1.5 ok")
    }

    /// Reads the content and answers it; false if the connection shall end without an answer.
    async fn data<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<bool> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = memmem::find(&self.input[searched..], b"\r\n.\r\n") {
                break searched + at + 2;
            }
            searched = self.input.len().saturating_sub(4);
            if self.input.len() > MAX_MESSAGE_BYTES || !self.more(stream).await? {
                return Ok(false);
            }
        };
        let content = self.input[..end].to_vec();
        self.input.drain(..end + 3);
        self.take(content).await
    }

    /// Reads a chunk and answers it; false if the connection shall end without an answer.
    async fn chunk<S>(&mut self, stream: &mut S, bytes: usize, is_last: bool) -> io::Result<bool>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while self.input.len() < bytes {
            if !self.more(stream).await? {
                return Ok(false);
            }
        }
        self.chunks.extend_from_slice(&self.input[..bytes]);
        self.input.drain(..bytes);
        if self.recipients.is_empty() {
            self.chunks.clear();
            self.say("503 5.5.1 no valid recipients");
            return Ok(true);
        }
        if !is_last {
            self.say("250 2.0.0 go on");
            return Ok(true);
        }
        let content = std::mem::take(&mut self.chunks);
        self.take(content).await
    }

    /// Answers a whole message; false if the connection shall end without an answer.
    async fn take(&mut self, content: Vec<u8>) -> io::Result<bool> {
        if !self.shared.behaviour.delay.is_zero() {
            tokio::time::sleep(self.shared.behaviour.delay).await;
        }
        let verdict = self.judge(&content)?;
        self.reset();
        match verdict {
            Some(reply) => self.say(reply),
            None => return Ok(false),
        };
        Ok(true)
    }

    /// The answer to a whole message, which is counted if it is 250; `None` closes the connection.
    fn judge(&mut self, content: &[u8]) -> io::Result<Option<&'static str>> {
        let id = id_of(content);
        let behaviour = &self.shared.behaviour;
        let mut counts = self.shared.counts.lock();
        if let Some(id) = &id {
            if chosen(id, "perm", behaviour.perm_fail) {
                counts.refused += 1;
                return Ok(Some("550 5.7.1 refused by order"));
            }
            let temporary = chosen(id, "temp", behaviour.temp_fail);
            let dropped = chosen(id, "drop", behaviour.drop);
            if (temporary || dropped) && counts.first_attempt(id) {
                counts.refused += 1;
                return Ok(if dropped { None } else { Some("451 4.7.1 not now, by order") });
            }
        }
        let now = self.shared.clock.wall();
        let serial = counts.message(now);
        for recipient in &self.recipients {
            counts.delivery(self.peer, id.as_deref(), recipient, domain_of(recipient));
            if let (Some(ledger), Some(id)) = (&self.shared.ledger, &id) {
                ledger.note(id, recipient)?;
            }
        }
        counts.keep(self.sender.as_deref().unwrap_or_default(), &self.recipients, content);
        drop(counts);
        if let Some(dir) = &behaviour.keep {
            std::fs::write(dir.join(format!("{serial}.eml")), content)?;
        }
        Ok(Some("250 2.0.0 taken"))
    }
}

/// The address of `FROM:<a@b> SIZE=…` or `TO:<a@b>`.
fn path(rest: &str) -> String {
    let inner = rest.split_once('<').map_or(rest, |(_, after)| after);
    inner.split('>').next().unwrap_or_default().to_owned()
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

fn id_of(content: &[u8]) -> Option<String> {
    let headers = &content[..memmem::find(content, b"\r\n\r\n").unwrap_or(content.len())];
    let at = headers.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(ID_HEADER.as_bytes()))?;
    Some(String::from_utf8_lossy(at.strip_prefix(b":")?).trim().to_owned())
}

/// Whether `id` belongs to the `share` of ids that fail in this `way`: the same answer every time.
fn chosen(id: &str, way: &str, share: f64) -> bool {
    // FNV-1a with a final mix (the last letters of ids count up): spread is all that is asked of it.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in way.bytes().chain(id.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((hash >> 11) as f64) < share * (1_u64 << 53) as f64
}
