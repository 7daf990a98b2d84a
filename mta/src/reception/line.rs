//! Where a command line ends, and where the text of a message ends (RFC 5321 sections 2.3.8, 4.1.1.4).
//! Pure. Floor 1.
//! Always: only CRLF ends a line, and only CRLF . CRLF ends DATA; a bare CR, a bare LF or NUL makes
//! the message unfit but never ends it. What is kept of a message is never more than its limit and
//! one read.

use bytes::Bytes;
use memchr::{memchr3, memchr3_iter, memmem};

/// The longest command line, CRLF included: 512 (RFC 5321) and the room that SIZE (26), BODY (17), SMTPUTF8 (10),
/// FUTURERELEASE (34), RET (9), ENVID (107) and AUTH (500) ask for, which is more than NOTIFY (29) and ORCPT (507) do.
pub const MAX_COMMAND_BYTES: usize = 1215;
/// The longest AUTH command, and the longest response within AUTH, CRLF included (RFC 4954 section 4).
pub const MAX_AUTH_BYTES: usize = 12_288;

/// What a scan for a command line found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineScan<'a> {
    /// A line without its CRLF. It took two bytes more than its length.
    Got(&'a [u8]),
    /// A line that holds a bare CR, a bare LF or NUL; the bytes that it took.
    Unclean(usize),
    /// The line is longer than its limit.
    Long,
    /// Bytes are missing; nothing is wrong so far.
    More,
}

/// How long the command line may be with which `bytes` begin, CRLF included.
pub fn command_limit(bytes: &[u8]) -> usize {
    let is_auth = bytes.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
    if is_auth { MAX_AUTH_BYTES } else { MAX_COMMAND_BYTES }
}

/// Scans for one line of up to `limit` bytes, CRLF included.
pub fn scan_line(bytes: &[u8], limit: usize) -> LineScan<'_> {
    let window = &bytes[..bytes.len().min(limit)];
    match memmem::find(window, b"\r\n") {
        Some(end) if memchr3(b'\r', b'\n', 0, &bytes[..end]).is_some() => LineScan::Unclean(end + 2),
        Some(end) => LineScan::Got(&bytes[..end]),
        None if window.len() == limit => LineScan::Long,
        None => LineScan::More,
    }
}

/// Why the text of a message cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is longer than the limit, in bytes.
    #[error("message is longer than {0} bytes")]
    Big(u64),
    /// There is no memory for it now.
    #[error("too many messages come at once, try again later")]
    NoRoom,
    /// It holds a CR that no LF follows.
    #[error("message holds a bare CR; lines must end in CRLF")]
    BareCr,
    /// It holds an LF that follows no CR.
    #[error("message holds a bare LF; lines must end in CRLF")]
    BareLf,
    /// It holds NUL.
    #[error("message holds NUL")]
    Nul,
    /// A line is longer than the limit, in bytes without CRLF.
    #[error("message holds a line of more than {0} bytes")]
    LongLine(u64),
}

/// How the text comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By DATA: dots are stuffed, and a lone dot ends it.
    Dotted,
    /// By BDAT (RFC 3030): as it is, its length told.
    Counted,
}

/// Follows the lines of a text, piece by piece.
#[derive(Clone, Debug)]
struct Lines {
    form: Form,
    max_line: u64,
    /// Bytes of the line so far, and whether it began with a dot.
    line: u64,
    dotted: bool,
    /// The last byte was a CR that may be the first half of CRLF.
    after_cr: bool,
    /// Bytes since the last CR, LF or NUL, and whether the first of them was a dot.
    run: u64,
    run_dot: bool,
    /// Dots between two of CR, LF and NUL, the true end apart.
    lone_dots: u64,
    /// Lines that began with a stuffed dot.
    stuffed: u64,
    fault: Option<Unfit>,
}

impl Lines {
    fn new(form: Form, max_line: u64) -> Self {
        Self {
            form,
            max_line,
            line: 0,
            dotted: false,
            after_cr: false,
            run: 0,
            run_dot: false,
            lone_dots: 0,
            stuffed: 0,
            fault: None,
        }
    }

    /// Reads on. `Some` is the offset behind the end of a dotted text.
    fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        for at in memchr3_iter(b'\r', b'\n', 0, bytes) {
            self.plain(&bytes[from..at]);
            from = at + 1;
            if self.special(bytes[at]) {
                return Some(from);
            }
        }
        self.plain(&bytes[from..]);
        None
    }

    fn plain(&mut self, run: &[u8]) {
        let Some(&first) = run.first() else { return };
        if self.after_cr {
            self.bare(Unfit::BareCr);
        }
        if self.line == 0 {
            self.dotted = first == b'.';
        }
        if self.run == 0 {
            self.run_dot = first == b'.';
        }
        self.run += run.len() as u64;
        self.line += run.len() as u64;
    }

    /// A CR, LF or NUL. True if it ends a dotted text.
    fn special(&mut self, byte: u8) -> bool {
        if self.run == 1 && self.run_dot {
            self.lone_dots += 1;
        }
        self.run = 0;
        if byte == b'\n' && self.after_cr {
            return self.end_line();
        }
        if self.after_cr {
            self.bare(Unfit::BareCr);
        }
        match byte {
            b'\r' => self.after_cr = true,
            b'\n' => self.bare(Unfit::BareLf),
            _ => self.bare(Unfit::Nul),
        }
        false
    }

    /// A byte that must not stand in a line stands in it. The first fault is told.
    fn bare(&mut self, fault: Unfit) {
        self.after_cr = false;
        self.line += 1;
        self.fault.get_or_insert(fault);
    }

    fn end_line(&mut self) -> bool {
        let (line, dotted) = (self.line, self.dotted && self.form == Form::Dotted);
        (self.line, self.dotted, self.after_cr) = (0, false, false);
        if dotted && line == 1 {
            self.lone_dots -= 1;
            return true;
        }
        self.stuffed += u64::from(dotted);
        if line - u64::from(dotted) > self.max_line {
            self.fault.get_or_insert(Unfit::LongLine(self.max_line));
        }
        false
    }

    /// What is wrong with a text that ends here.
    fn verdict(&self) -> Option<Unfit> {
        let cut = self.after_cr.then_some(Unfit::BareCr);
        let long = (self.line > self.max_line).then_some(Unfit::LongLine(self.max_line));
        self.fault.or(cut).or(long)
    }
}

/// The limits of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimits {
    /// Bytes of the message, dots unstuffed.
    pub message: u64,
    /// Bytes of a line without its CRLF.
    pub line: u64,
}

/// The text of one message while it comes.
#[derive(Clone, Debug)]
pub struct Text {
    lines: Lines,
    limit: u64,
    kept: Vec<u8>,
    seen: u64,
    big: bool,
}

/// The bytes behind the end of the text that DATA's dot, CR and LF take.
const END_BYTES: u64 = 3;

impl Text {
    /// A text of which nothing came yet.
    pub fn new(form: Form, limits: TextLimits) -> Self {
        Self { lines: Lines::new(form, limits.line), limit: limits.message, kept: Vec::new(), seen: 0, big: false }
    }

    /// Takes bytes of the text. `Some` is the offset behind its end: what follows are commands.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = self.lines.feed(bytes);
        let mine = &bytes[..end.unwrap_or(bytes.len())];
        self.seen += mine.len() as u64;
        if self.seen > self.limit.saturating_add(self.lines.stuffed).saturating_add(END_BYTES) {
            self.big = true;
            self.kept = Vec::new();
        }
        if !self.big {
            if self.kept.is_empty() && end.is_some() {
                self.kept.reserve_exact(mine.len());
            }
            self.kept.extend_from_slice(mine);
        }
        end
    }

    /// Bytes that came so far, whether they were kept or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Bytes that are kept.
    pub fn kept(&self) -> u64 {
        self.kept.len() as u64
    }

    /// Reads that there is more than the limit, and keeps nothing from here on.
    pub fn overflow(&mut self) {
        self.big = true;
        self.kept = Vec::new();
    }

    /// True if the text holds what can only be meant to end it in the eyes of a lenient receiver:
    /// an attempt to smuggle commands.
    pub fn smuggles(&self) -> bool {
        self.lines.form == Form::Dotted && self.lines.lone_dots > 0
    }

    /// The message, dots unstuffed, in one piece of memory that is no larger than it.
    ///
    /// # Errors
    /// Why it cannot be taken.
    pub fn finish(mut self) -> Result<Bytes, Unfit> {
        if let Some(fault) = self.lines.verdict() {
            return Err(fault);
        }
        if self.lines.form == Form::Dotted {
            self.kept.truncate(self.kept.len().saturating_sub(END_BYTES as usize));
        }
        if self.lines.stuffed > 0 {
            unstuff(&mut self.kept);
        }
        if self.big || self.kept.len() as u64 > self.limit {
            return Err(Unfit::Big(self.limit));
        }
        self.kept.shrink_to_fit();
        Ok(Bytes::from(self.kept))
    }
}

/// Takes the first dot from each line that begins with one, in place, run by run.
fn unstuff(text: &mut Vec<u8>) {
    let finder = memmem::Finder::new(b"\r\n.");
    let (mut read, mut write) = (usize::from(text.first() == Some(&b'.')), 0);
    while let Some(at) = finder.find(&text[read..]) {
        let keep = at + 2;
        text.copy_within(read..read + keep, write);
        (read, write) = (read + keep + 1, write + keep);
    }
    text.copy_within(read.., write);
    text.truncate(write + text.len() - read);
}

#[cfg(test)]
mod tests;
