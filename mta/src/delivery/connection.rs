//! One connection to a destination: the stream, in clear or in TLS, that drives the dialogue.
//! Floor 3. Touches the socket; every wait has a limit of the path's options.
//! Always: cancelling a wait leaves the dialogue as it stands, so that it can still say what became
//! of each recipient.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use egret_shared::net::tls_client::{Check, ClientTls, TlsFault, describe};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::content;
use super::dialogue::{Act, Dialogue, Lost};
use super::leg::{Layer, Leg};
use super::outcome::Stage;
use super::trace::{Tap, What};
use crate::message::{Content, Ticket};
use crate::shaping::options::Timeouts;

/// Room for one read.
const READ_BYTES: usize = 4096;
/// Pieces of content in one write.
const PIECES: usize = 64;
/// So much content must be taken within the limit of a block, so that one who takes it drop by drop holds no session.
const BLOCK_BYTES: usize = 64 << 10;
/// The longest wait for the answer to QUIT: nothing depends on it.
const QUIT_WAIT: Duration = Duration::from_secs(5);

/// The conversation's own TLS, over the way's stream.
type Stream = Layer<Leg>;

/// Why there is no TLS.
pub(super) struct NoTls {
    pub text: String,
    /// What kind of fault it is.
    pub fault: TlsFault,
}

/// A connection and its dialogue.
pub(super) struct Connection {
    stream: Stream,
    input: BytesMut,
    send: Vec<u8>,
    pub dialogue: Dialogue,
    timeouts: Timeouts,
    /// Our own end of a connection to a proxy.
    pub local: Option<SocketAddr>,
    /// TLS version and cipher.
    pub tls: Option<String>,
    pub tap: Tap,
    /// The end of a transaction, which came while others were still being written behind it.
    held: Option<Act>,
}

/// A transaction of which all is written at once: its commands up to this place of those that wait, and its content.
pub(super) struct Flight<'a> {
    pub ticket: &'a Ticket,
    pub commands: usize,
    pub content: &'a Content,
}

impl Connection {
    pub fn new(stream: Leg, input: BytesMut, dialogue: Dialogue, timeouts: Timeouts, mut tap: Tap) -> Self {
        tap.heard(&input);
        let send = Vec::with_capacity(512);
        let (stream, local, tls, held) = (Stream::Clear(stream), None, None, None);
        Self { stream, input, send, dialogue, timeouts, local, tls, tap, held }
    }

    /// The buffer that commands are appended to, with the dialogue that does so.
    pub fn parts(&mut self) -> (&mut Dialogue, &mut Vec<u8>) {
        (&mut self.dialogue, &mut self.send)
    }

    /// Writes what waits, and reads until something is to be done. Each reply has its own limit.
    pub async fn next(&mut self) -> Act {
        if let Some(act) = self.held.take() {
            return act;
        }
        loop {
            let (limit, replies) = (self.limit(), self.dialogue.replies());
            match timeout(limit, self.until_reply(replies)).await {
                Ok(Ok(Some(act))) => return act,
                Ok(Ok(None)) => {}
                Ok(Err(lost)) => return self.dialogue.lost(&lost),
                Err(_) => return self.dialogue.lost(&Lost::Late(limit.as_secs())),
            }
        }
    }

    /// Returns when there is an act, or when a reply came that leads to none.
    async fn until_reply(&mut self, replies: u64) -> Result<Option<Act>, Lost> {
        loop {
            let act = self.dialogue.step(&mut self.input, &mut self.send);
            if !self.send.is_empty() {
                self.tap.sent(&self.send, self.dialogue.is_secret());
                // A cancelled write ends the connection, so nothing is written twice.
                let written = write(&mut self.stream, &self.send).await;
                self.send.clear();
                if let Err(error) = written {
                    return self.last_words(&error).await;
                }
            }
            if act.is_some() || self.dialogue.replies() != replies {
                return Ok(act);
            }
            let before = self.input.len();
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await.map_err(|e| lost(&e))? == 0 {
                return Err(Lost::Closed);
            }
            self.tap.heard(&self.input[before..]);
        }
    }

    /// What the other side said before the connection broke says more than the break.
    async fn last_words(&mut self, error: &io::Error) -> Result<Option<Act>, Lost> {
        loop {
            let before = self.input.len();
            let (stream, input) = (&mut self.stream, &mut self.input);
            let heard = poll_fn(|cx| match poll_read(stream, cx, input) {
                Poll::Ready(Ok(heard)) => Poll::Ready(heard),
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(0),
            });
            if heard.await == 0 {
                return Err(lost(error));
            }
            self.tap.heard(&self.input[before..]);
            let act = self.dialogue.step(&mut self.input, &mut self.send);
            self.send.clear();
            if act.is_some() {
                return Ok(act);
            }
        }
    }

    /// Writes the content and the final dot. An act is an answer that came too early, or a loss.
    pub async fn send_content(&mut self, content: &Content) -> Option<Act> {
        // A refusal may have come right behind the 354.
        if let Some(act) = self.dialogue.step(&mut self.input, &mut self.send) {
            return Some(act);
        }
        let pieces = if self.dialogue.is_chunked() { content::whole(content) } else { content::pieces(content) };
        self.tap.content(&pieces);
        self.write(&pieces, &[pieces.len()]).await
    }

    /// Writes transactions whose commands wait, each with its content behind them, as [`Dialogue::begin`] and
    /// [`Dialogue::follow`] ask for. An act is an end of the first that came before all was written.
    pub async fn send_at_once(&mut self, flight: &[Flight<'_>]) -> Option<Act> {
        let commands = std::mem::take(&mut self.send);
        let (mut pieces, mut ends, mut start) = (Vec::with_capacity(3 * flight.len()), Vec::new(), 0);
        for Flight { ticket, commands: end, content } in flight {
            let content = content::whole(content);
            if flight.len() > 1 || self.dialogue.has_behind() {
                self.tap.carry(ticket);
            }
            self.tap.sent(&commands[start..*end], false);
            self.tap.content(&content);
            pieces.push(&commands[start..*end]);
            pieces.extend(content);
            ends.push(pieces.len());
            start = *end;
        }
        let act = self.write(&pieces, &ends).await;
        drop(pieces);
        if act.is_some() && !self.dialogue.is_written() {
            // An end before the end of what was to be written.
            self.dialogue.out_of_step();
        } else if self.send.is_empty() {
            self.send = commands;
            self.send.clear();
        }
        act
    }

    /// Writes pieces to their end; a transaction ends with each piece before one of `ends`. Each block has its time,
    /// whatever the other side says meanwhile.
    async fn write(&mut self, pieces: &[&[u8]], mut ends: &[usize]) -> Option<Act> {
        let (mut rest, mut skip, mut block) = (pieces, 0, 0);
        let mut until = Instant::now() + self.timeouts.data;
        while !rest.is_empty() {
            let before = self.input.len();
            let written = timeout_at(until, self.write_watching(rest, skip)).await;
            self.tap.heard(&self.input[before..]);
            let mut written = match written {
                Ok(Ok(Some(written))) => {
                    block += written;
                    if block >= BLOCK_BYTES {
                        (block, until) = (0, Instant::now() + self.timeouts.data);
                    }
                    written + skip
                }
                Ok(Ok(None)) => match self.dialogue.step(&mut self.input, &mut self.send) {
                    None => continue,
                    // The first is over, and those behind it go on.
                    act if self.dialogue.awaits_next() => {
                        self.held = act;
                        continue;
                    }
                    act => return act,
                },
                Ok(Err(lost)) => return Some(self.cut(&lost)),
                Err(_) => return Some(self.cut(&Lost::Late(self.timeouts.data.as_secs()))),
            };
            while let Some((first, others)) = rest.split_first()
                && written >= first.len()
            {
                written -= first.len();
                rest = others;
            }
            skip = written;
            while let Some((end, later)) = ends.split_first()
                && rest.len() + end <= pieces.len()
            {
                self.dialogue.content_written();
                ends = later;
            }
        }
        // Content without a byte.
        for _ in ends {
            self.dialogue.content_written();
        }
        match timeout(self.timeouts.data, self.stream.flush()).await {
            Ok(Ok(())) => self.held.take(),
            Ok(Err(error)) => Some(self.cut(&lost(&error))),
            Err(_) => Some(self.cut(&Lost::Late(self.timeouts.data.as_secs()))),
        }
    }

    /// No more can be written or read. The end of the transaction whose turn it is.
    fn cut(&mut self, lost: &Lost) -> Act {
        match self.held.take() {
            Some(act) => {
                self.dialogue.cut(lost);
                act
            }
            None => self.dialogue.lost(lost),
        }
    }

    /// The end of the transaction whose turn it is, if nothing more is read or written.
    pub fn stopped(&mut self) -> Act {
        self.cut(&Lost::Stopped)
    }

    /// Writes some of `pieces` but the first `skip` bytes; `None` if the other side said something
    /// while it did not take any.
    async fn write_watching(&mut self, pieces: &[&[u8]], skip: usize) -> Result<Option<usize>, Lost> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        for (n, (slice, piece)) in slices.iter_mut().zip(pieces).enumerate() {
            *slice = IoSlice::new(&piece[if n == 0 { skip } else { 0 }..]);
        }
        let slices = &slices[..pieces.len().min(PIECES)];
        let (stream, input, is_watched) = (&mut self.stream, &mut self.input, self.held.is_none());
        input.reserve(READ_BYTES);
        poll_fn(|cx| {
            match Pin::new(&mut *stream).poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Lost::Closed)),
                Poll::Ready(Ok(written)) => return Poll::Ready(Ok(Some(written))),
                // A refusal that came before the break says more than the break.
                Poll::Ready(Err(error)) if !is_watched => return Poll::Ready(Err(lost(&error))),
                Poll::Ready(Err(error)) => match ready!(poll_read(stream, cx, input)) {
                    Ok(read) if read > 0 => return Poll::Ready(Ok(None)),
                    _ => return Poll::Ready(Err(lost(&error))),
                },
                Poll::Pending if !is_watched => return Poll::Pending,
                Poll::Pending => {}
            }
            match ready!(poll_read(stream, cx, input)) {
                Ok(0) => Poll::Ready(Err(Lost::Closed)),
                Ok(_) => Poll::Ready(Ok(None)),
                Err(error) => Poll::Ready(Err(lost(&error))),
            }
        })
        .await
    }

    /// Does the TLS handshake. Judges the certificate too, if that `is_judged`, though it decides nothing.
    pub async fn upgrade(
        &mut self,
        tls: &ClientTls,
        check: Check<'_>,
        name: &str,
        is_judged: bool,
    ) -> Result<Result<(), TlsFault>, NoTls> {
        let broken = |text| NoTls { text, fault: TlsFault::Broken };
        let Stream::Clear(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(broken("TLS is on already".to_owned()));
        };
        let limit = self.timeouts.starttls;
        let stream = timeout(limit, tls.handshake(check, name, stream)).await;
        let late = |_| broken(format!("TLS handshake with {name}: no answer within {} s", limit.as_secs()));
        let stream = stream.map_err(late)?.map_err(|error| NoTls {
            text: format!("TLS handshake with {name}: {error}"),
            fault: TlsFault::of(&error),
        })?;
        let used = describe(&stream);
        self.tap.tell(What::Tls, || &used);
        self.tls = Some(used);
        let judged = if is_judged { tls.judge(&stream, name) } else { Ok(()) };
        self.stream = Stream::Tls(Box::new(stream));
        self.dialogue.upgraded(&mut self.send);
        Ok(judged)
    }

    /// Waits for more work, within the idle limit. `None`: there is none, or the other side spoke or left.
    pub async fn idle(&mut self, work: &mut mpsc::Receiver<Ticket>) -> Option<Ticket> {
        let before = self.input.len();
        self.input.reserve(READ_BYTES);
        let waiting = async {
            tokio::select! {
                biased;
                ticket = work.recv() => ticket,
                _ = self.stream.read_buf(&mut self.input) => None,
            }
        };
        let more = timeout(self.timeouts.idle, waiting).await.ok().flatten();
        if more.is_some() && self.has_ended().await {
            // What is written now would be lost, or worse, be taken without an answer.
            self.dialogue.out_of_step();
        }
        self.tap.heard(&self.input[before..]);
        more
    }

    /// Before work that waited without a look at the connection: what is written to one who has left would be lost.
    pub async fn look(&mut self) {
        if self.has_ended().await {
            self.dialogue.out_of_step();
        }
    }

    /// Whether the other side has left or spoken, as far as is known without waiting.
    async fn has_ended(&mut self) -> bool {
        let (stream, input) = (&mut self.stream, &mut self.input);
        poll_fn(|cx| Poll::Ready(poll_read(stream, cx, input).is_ready())).await
    }

    /// Says goodbye if the other side still listens, and waits a little for the answer, unless
    /// `in_haste`.
    pub async fn quit(mut self, in_haste: bool) {
        if self.dialogue.is_usable() && self.input.is_empty() {
            self.dialogue.quit(&mut self.send);
            let limit = self.timeouts.rset.min(QUIT_WAIT);
            if in_haste {
                self.tap.sent(&self.send, false);
                let _ = timeout(limit, self.stream.write_all(&self.send)).await;
            } else {
                let _ = timeout(limit, self.next()).await;
            }
        }
    }

    fn limit(&self) -> Duration {
        let timeouts = &self.timeouts;
        match self.dialogue.stage() {
            Stage::Connect => timeouts.connect,
            Stage::Greeting => timeouts.banner,
            Stage::Hello => timeouts.ehlo,
            Stage::StartTls => timeouts.starttls,
            Stage::Auth => timeouts.auth,
            Stage::Idle => timeouts.idle,
            Stage::Reset | Stage::Quit => timeouts.rset,
            Stage::Mail => timeouts.mail_from,
            Stage::Rcpt => timeouts.rcpt_to,
            Stage::Data | Stage::Content => timeouts.data,
            Stage::AfterDot | Stage::Bdat => timeouts.data_dot,
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn lost(error: &io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::ConnectionReset => Lost::Reset,
        // TLS without its closing alert: common, and the same as a close.
        io::ErrorKind::UnexpectedEof => Lost::Closed,
        _ => Lost::Broken(error.to_string()),
    }
}

fn poll_read(stream: &mut Stream, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
    let mut room = [0; READ_BYTES];
    let mut read = ReadBuf::new(&mut room);
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    input.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}
