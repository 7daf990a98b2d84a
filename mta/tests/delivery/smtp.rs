//! A mail server that follows a script: for each connection, what to say and what to wait for.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// One step of a script.
#[derive(Clone)]
pub enum Step {
    /// Write this.
    Say(&'static str),
    /// Read a line and note it.
    Hear,
    /// Read lines up to the lone dot and note them.
    Content,
    /// Read so many bytes and note them as one line.
    Take(usize),
    /// Do the server's side of a TLS handshake.
    Tls(TlsAcceptor),
    /// Read until the client closes; answer only QUIT.
    Listen,
    /// Close with a reset (in clear only).
    Reset,
    /// Tell a waiting test that the script came this far.
    Reached(Arc<tokio::sync::Notify>),
}

pub use Step::{Content, Hear, Listen, Reached, Reset, Say, Take, Tls};

/// What the server noted, one list of lines a connection, in the order in which they were accepted.
pub type Heard = Arc<Mutex<Vec<Vec<String>>>>;

/// Serves each script on one connection, in order; further connections are closed at once.
pub async fn serve(at: &str, scripts: Vec<Vec<Step>>) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind(at).await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let heard = Heard::default();
    let noted = heard.clone();
    tokio::spawn(async move {
        let mut scripts = scripts.into_iter();
        while let Ok((stream, _)) = listener.accept().await {
            let number = {
                let mut noted = noted.lock();
                noted.push(Vec::new());
                noted.len() - 1
            };
            let script = scripts.next().unwrap_or_default();
            tokio::spawn(play(stream, script, noted.clone(), number));
        }
    });
    (address, heard)
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

/// Follows a script on a connection.
pub async fn play(stream: TcpStream, script: Vec<Step>, heard: Heard, number: usize) {
    let mut stream: Option<TcpStream> = Some(stream);
    let mut tls: Option<tokio_rustls::server::TlsStream<TcpStream>> = None;
    let note = |line: String| heard.lock()[number].push(line);
    for step in script {
        let talk: &mut dyn Both = match (&mut tls, &mut stream) {
            (Some(tls), _) => tls,
            (None, Some(clear)) => clear,
            (None, None) => return,
        };
        match step {
            Say(text) => {
                if talk.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
                let _ = talk.flush().await;
            }
            Hear => match line(talk).await {
                Some(line) => note(line),
                None => return note("EOF".to_owned()),
            },
            Take(bytes) => {
                let mut taken = vec![0; bytes];
                match talk.read_exact(&mut taken).await {
                    Ok(_) => note(String::from_utf8_lossy(&taken).into_owned()),
                    Err(_) => return note("EOF".to_owned()),
                }
            }
            Content => loop {
                match line(talk).await {
                    Some(dot) if dot == "." => break,
                    Some(line) => note(line),
                    None => return note("EOF".to_owned()),
                }
            },
            Listen => {
                while let Some(line) = line(talk).await {
                    if line == "QUIT" {
                        let _ = talk.write_all(b"221 bye\r\n").await;
                        let _ = talk.flush().await;
                    }
                    note(line);
                }
            }
            Reached(notify) => notify.notify_one(),
            Tls(acceptor) => match stream.take() {
                Some(clear) => match acceptor.accept(clear).await {
                    Ok(upgraded) => tls = Some(upgraded),
                    Err(_) => return note("handshake failed".to_owned()),
                },
                None => return,
            },
            Reset => {
                if let Some(clear) = stream.take() {
                    egret_shared::net::socket::reset_on_close(&clear);
                }
            }
        }
    }
}

async fn line(stream: &mut dyn Both) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => {
                let line = String::from_utf8_lossy(&line);
                return Some(line.trim_end_matches('\r').to_owned());
            }
            Ok(byte) => line.push(byte),
            Err(_) => return None,
        }
    }
}
