//! Reading SMTP replies off a stream, multi-line ones included. Floor 0.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// The longest reply line taken (RFC 5321 section 4.5.3.1.5 says 512; peers write more).
const MAX_LINE_BYTES: usize = 4096;

/// Reads one reply and gives its code; `line` is scratch and holds the last line afterwards.
///
/// # Errors
/// If the stream ends or fails, or speaks something that is no SMTP reply.
pub async fn read_code<R: AsyncBufRead + Unpin>(reader: &mut R, line: &mut Vec<u8>) -> io::Result<u16> {
    loop {
        line.clear();
        if reader.read_until(b'\n', line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "no SMTP reply");
        if line.len() > MAX_LINE_BYTES || line.last() != Some(&b'\n') {
            return Err(bad());
        }
        let code = line.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| d.parse().ok());
        let code = code.ok_or_else(bad)?;
        if line.get(3) != Some(&b'-') {
            return Ok(code);
        }
    }
}
