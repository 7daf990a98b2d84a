//! Requests to an admin address. Floor 0.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Asks for `what` ("GET /livez") with a JSON body, which may be empty; returns the status and the whole answer.
/// Connecting and each read may take as long as `patience`.
///
/// # Errors
/// Those of the socket; nobody listening is one, too.
pub fn ask(admin: SocketAddr, what: &str, body: &str, patience: Duration) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let length = body.len();
    let request = format!(
        "{what} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((status, answer))
}
